#include "cli/tierctl/view.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/tierctl/text.h"
#include "lib/base/bytes.h"

namespace tierd {
namespace {

using nlohmann::json;

constexpr auto kRight = Table::Align::right;

uint64_t number(const json& row, const char* key) {
    return row.at(key).get<uint64_t>();
}
std::string count(const json& row, const char* key) {
    return std::to_string(number(row, key));
}
std::string size(const json& row, const char* key) {
    return format_bytes(number(row, key));
}
std::string text(const json& row, const char* key) {
    return row.at(key).get<std::string>();
}
std::string or_dash(const json& row, const char* key) {
    return row.at(key).is_null() ? "-" : count(row, key);
}

std::string resident_share(const json& row, const char* whole) {
    return percent(number(row, "resident_bytes"), number(row, whole));
}

std::string model_notes(const json& model) {
    std::string notes;
    auto add = [&](const std::string& note) { notes += (notes.empty() ? "" : ", ") + note; };
    if (model.at("changed").get<bool>()) add("changed on disk: served by the kernel");
    if (!text(model, "header_error").empty()) add("no tensors: " + text(model, "header_error"));
    if (model.at("order_learned").get<bool>()) add("order learned");
    return notes;
}

std::string counters_text(const json& c) {
    return fmt::format("faults     {} waited for a read, {} joined one, {} only mapped; slowest {}\n",
                       number(c, "faults_missing"), number(c, "faults_joined"), number(c, "faults_minor"),
                       duration(number(c, "slowest_fault_ns"))) +
           fmt::format(
               "reads      {}; extents: {} on demand, {} ahead ({} in vain), {} preloaded; {} errors\n",
               size(c, "bytes_read"), number(c, "fills_demand"), number(c, "fills_read_ahead"),
               number(c, "fills_wasted"), number(c, "fills_preload"), number(c, "read_errors")) +
           fmt::format("evictions  {} in {} extents\n", size(c, "bytes_evicted"), number(c, "evictions"));
}

// What was not served, by reason; nothing where all was.
std::string troubles_text(const json& status) {
    std::string out;
    for (auto [key, title] : {std::pair{"fall_backs", "fall-backs "}, std::pair{"refusals", "refused    "}}) {
        std::string reasons;
        for (const json& row : status.at(key))
            if (number(row, "count") > 0)
                reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", count(row, "count"),
                                       escape(text(row, "name")));
        if (!reasons.empty()) out += title + reasons + "\n";
    }
    return out;
}

// Only what is out of the ordinary: moves that are held back for the sake of readers.
std::string moves_text(const json& moves) {
    if (number(moves, "pace_bytes_per_s") >= number(moves, "limit_bytes_per_s")) return {};
    return fmt::format("moves      at {} of {} a second, since readers waited {:.2f} times as long\n",
                       size(moves, "pace_bytes_per_s"), size(moves, "limit_bytes_per_s"),
                       moves.at("reader_slowdown").get<double>());
}

}  // namespace

std::string view_status(const json& s) {
    std::string out = fmt::format("tierd      {}, up {}, policy {}\n", escape(text(s, "version")),
                                  duration(number(s, "uptime_ns")), escape(text(s, "policy")));
    out += fmt::format("memory     {} of {} ({}), most so far {}, pinned {}\n", size(s, "resident_bytes"),
                       size(s, "budget_bytes"), resident_share(s, "budget_bytes"),
                       size(s, "resident_peak_bytes"), size(s, "pinned_bytes"));
    out +=
        fmt::format("serving    {} weight files, {} sessions\n", number(s, "models"), number(s, "sessions"));
    out += counters_text(s.at("counters"));
    out += moves_text(s.at("moves"));
    out += troubles_text(s);
    for (const json& note : s.at("notes")) out += "note       " + escape(note.get<std::string>()) + "\n";
    return out;
}

std::string view_models(const json& answer) {
    Table table({{"FILE", kRight},
                 {"MODEL"},
                 {"FORMAT"},
                 {"SIZE", kRight},
                 {"IN MEMORY", kRight},
                 {"SHARE", kRight},
                 {"PINNED", kRight},
                 {"SESSIONS", kRight},
                 {"BACKING"},
                 {"NOTES"}});
    for (const json& m : answer.at("models"))
        table.add({count(m, "file"), text(m, "name"), text(m, "format"), size(m, "file_bytes"),
                   size(m, "resident_bytes"), resident_share(m, "file_bytes"), size(m, "pinned_bytes"),
                   count(m, "sessions"), text(m, "backing"), model_notes(m)});
    return table.text();
}

static std::string session_notes(const json& session) {
    std::string notes = session.at("user_mode_faults").get<bool>() ? "no faults in system calls" : "";
    if (number(session, "gpu_position") == 0) return notes;
    return fmt::format("{}{}waits for {} of GPU memory, place {}", notes, notes.empty() ? "" : "; ",
                       size(session, "gpu_requested_bytes"), number(session, "gpu_position"));
}

std::string view_sessions(const json& answer) {
    Table table({{"SESSION", kRight},
                 {"PID", kRight},
                 {"UID", kRight},
                 {"COMMAND"},
                 {"REGIONS", kRight},
                 {"MAPPED", kRight},
                 {"MISSES", kRight},
                 {"MAPS", kRight},
                 {"SLOWEST", kRight},
                 {"GPU", kRight},
                 {"NOTES"}});
    for (const json& s : answer.at("sessions"))
        table.add({count(s, "session"), count(s, "pid"), count(s, "uid"), text(s, "command"),
                   count(s, "regions"), size(s, "mapped_bytes"), count(s, "faults_missing"),
                   count(s, "faults_minor"), duration(number(s, "slowest_fault_ns")),
                   size(s, "gpu_lease_bytes"), session_notes(s)});
    return table.text();
}

std::string view_tiers(const json& answer) {
    Table table({{"TIER"},
                 {"KIND"},
                 {"CAPACITY", kRight},
                 {"USED", kRight},
                 {"SHARE", kRight},
                 {"LATENCY", kRight},
                 {"BANDWIDTH", kRight},
                 {"FIGURES"},
                 {"STATE"}});
    for (const json& t : answer.at("tiers")) {
        uint64_t latency_ns = number(t, "latency_ns"), bandwidth = number(t, "bandwidth_bytes_per_s");
        table.add({text(t, "name"), text(t, "kind"), size(t, "capacity_bytes"), size(t, "used_bytes"),
                   percent(number(t, "used_bytes"), number(t, "capacity_bytes")),
                   latency_ns == 0 ? "-" : fmt::format("{} ns", latency_ns),
                   bandwidth == 0 ? "-" : format_bytes(bandwidth) + "/s", text(t, "figures"),
                   text(t, "state")});
    }
    for (const json& disk : answer.value("disks", json::array())) {
        uint64_t latency_ns = number(disk, "latency_ns"), best = 0;
        for (const json& read : disk.at("reads")) best = std::max(best, number(read, "bytes_per_s"));
        table.add({text(disk, "name"), text(disk, "kind"), size(disk, "size_bytes"), size(disk, "file_bytes"),
                   percent(number(disk, "file_bytes"), number(disk, "size_bytes")),
                   latency_ns == 0 ? "-" : duration(latency_ns), best == 0 ? "-" : format_bytes(best) + "/s",
                   best == 0 ? "unknown" : "measured", "origin"});
    }
    return table.text();
}

// The bound below which `share` of the stage's durations lie, in ns. Bucket i ends at 2^i µs.
static uint64_t quantile_ns(const json& stage, double share) {
    double wanted = share * static_cast<double>(number(stage, "count"));
    double seen = 0;
    uint64_t bound_ns = 1000;
    for (const json& bucket : stage.at("buckets")) {
        seen += bucket.get<double>();
        if (seen >= wanted) break;
        bound_ns *= 2;
    }
    return std::min(bound_ns, number(stage, "max_ns"));
}

static std::string histogram_of(const json& stage) {
    std::string out = "\n" + escape(text(stage, "stage")) + "\n";
    uint64_t bound_ns = 1000;
    for (const json& bucket : stage.at("buckets")) {
        auto found = bucket.get<uint64_t>();
        if (found > 0)
            out += fmt::format("  < {:>8}  {:>9}  {}\n", duration(bound_ns), found,
                               bar(found, number(stage, "count"), 40));
        bound_ns *= 2;
    }
    return out;
}

std::string view_faults(const json& answer, bool histogram) {
    Table table({{"STAGE"},
                 {"FAULTS", kRight},
                 {"MEAN", kRight},
                 {"HALF BELOW", kRight},
                 {"99 % BELOW", kRight},
                 {"LONGEST", kRight}});
    std::string spread;
    for (const json& s : answer.at("stages")) {
        uint64_t faults = number(s, "count");
        table.add({text(s, "stage"), count(s, "count"),
                   duration(number(s, "sum_ns") / std::max<uint64_t>(faults, 1)),
                   duration(quantile_ns(s, 0.5)), duration(quantile_ns(s, 0.99)),
                   duration(number(s, "max_ns"))});
        if (histogram && faults > 0) spread += histogram_of(s);
    }
    return table.text() + spread;
}

std::string view_slowest_fault(const json& answer) {
    const json& f = answer.at("slowest");
    if (number(f, "whole_ns") == 0) return "no fault has waited for a read yet\n";
    std::string out =
        fmt::format("pid {}, extent {} of {}, {} after tierd's start\n", f.at("pid").get<int64_t>(),
                    count(f, "extent"), escape(text(f, "path")), duration(number(f, "since_ns")));
    Table table({{"STAGE"}, {"FROM", kRight}, {"TOOK", kRight}, {""}});
    uint64_t from_ns = 0;
    for (const char* stage : {"queue", "read", "check", "map"}) {
        uint64_t took_ns = number(f, (std::string(stage) + "_ns").c_str());
        table.add({stage, duration(from_ns), duration(took_ns), bar(took_ns, number(f, "whole_ns"), 40)});
        from_ns += took_ns;
    }
    table.add({"whole", "", duration(number(f, "whole_ns")), ""});
    return out + table.text();
}

std::string view_tensors(const json& answer, bool each) {
    std::string out = view_model_line(answer.at("model")) + "\n";
    Table layers({{"LAYER", kRight},
                  {"SIZE", kRight},
                  {"IN MEMORY", kRight},
                  {"SHARE", kRight},
                  {""},
                  {"TOUCHES", kRight}});
    for (const json& l : answer.at("layers"))
        layers.add({or_dash(l, "layer"), size(l, "bytes"), size(l, "resident_bytes"),
                    resident_share(l, "bytes"), bar(number(l, "resident_bytes"), number(l, "bytes"), 20),
                    count(l, "touches")});
    out += layers.text();
    if (!each) return out;
    Table tensors({{"TENSOR"},
                   {"TYPE"},
                   {"ROLE"},
                   {"LAYER", kRight},
                   {"EXPERT", kRight},
                   {"SIZE", kRight},
                   {"IN MEMORY", kRight},
                   {"SHARE", kRight}});
    for (const json& t : answer.at("tensors"))
        tensors.add({text(t, "name"), text(t, "dtype"), text(t, "role"), or_dash(t, "layer"),
                     or_dash(t, "expert"), size(t, "bytes"), size(t, "resident_bytes"),
                     resident_share(t, "bytes")});
    return out + "\n" + tensors.text();
}

std::string view_model_line(const json& m) {
    return fmt::format("{}: {} of {} in memory ({}), pinned {}\n", escape(text(m, "name")),
                       size(m, "resident_bytes"), size(m, "file_bytes"), resident_share(m, "file_bytes"),
                       size(m, "pinned_bytes"));
}

}  // namespace tierd
