#include "cli/tierctl/replay_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "lib/sample/replay.h"
#include "lib/sample/symbols.h"
#include "lib/trace/trace_reader.h"

namespace tierd {
namespace {

using nlohmann::json;

json as_json(const HotRow& row) {
    auto number = [](int value) { return value < 0 ? json(nullptr) : json(value); };
    return {{"model", row.model},         {"name", row.name},
            {"object", row.object},       {"offset_bytes", row.offset_bytes},
            {"layer", number(row.layer)}, {"expert", number(row.expert)},
            {"bytes", row.bytes},         {"heat", row.heat},
            {"samples", row.samples},     {"node", number(row.node)}};
}

json as_json(std::vector<HotRow> rows) {
    sort_hot(rows);
    json list = json::array();
    for (const HotRow& row : rows) list.push_back(as_json(row));
    return {{"rows", std::move(list)}};
}

bool is_trace(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::string begin(kTraceMagic.size(), '\0');
    in.read(begin.data(), static_cast<std::streamsize>(begin.size()));
    return in && begin == kTraceMagic;
}

// The extents of a trace's model have labels but no names; a tensor is not known.
std::vector<HotRow> rows_of(const TraceModel& model, const std::vector<uint64_t>& touches, HotBy by) {
    std::map<std::pair<int, int>, HotRow> groups;
    std::vector<HotRow> rows;
    uint32_t index = 0;
    for (const TraceRun& run : model.runs) {
        for (uint32_t i = 0; i < run.count; i++, index++) {
            HotRow row;
            row.model = model.name;
            row.layer = run.layer == TIERD_NO_LAYER ? -1 : run.layer;
            row.expert = run.expert == TIERD_NO_EXPERT || by == HotBy::layer ? -1 : run.expert;
            row.bytes = run.bytes;
            row.heat = static_cast<double>(touches[index]);
            row.samples = touches[index];
            if (by == HotBy::extent) {
                row.name = fmt::format("extent {}", index);
                rows.push_back(std::move(row));
                continue;
            }
            auto [group, fresh] = groups.try_emplace({row.layer, row.expert}, row);
            if (fresh) continue;
            group->second.bytes += row.bytes;
            group->second.heat += row.heat;
            group->second.samples += row.samples;
        }
    }
    for (auto& [key, row] : groups) rows.push_back(std::move(row));
    return rows;
}

Result<json> hot_from_trace(const std::string& path, HotBy by) {
    if (by != HotBy::layer && by != HotBy::expert && by != HotBy::extent)
        return fail(Code::bad_input, "show a trace", path,
                    "a trace knows layers, experts and extents: choose one with --by");
    auto trace = read_trace(path);
    if (!trace) return std::unexpected(trace.error());
    std::vector<std::vector<uint64_t>> touches;
    for (const TraceModel& model : trace->models) touches.emplace_back(model.extent_count());
    std::map<uint32_t, uint32_t> open;  // by slot
    for (const TraceEvent& event : trace->events) {
        if (event.kind == TraceEventKind::open) open[event.slot] = event.index;
        bool touch = event.kind == TraceEventKind::missing || event.kind == TraceEventKind::minor;
        if (touch) touches[open.at(event.slot)].at(event.index)++;
    }
    std::vector<HotRow> rows;
    for (size_t i = 0; i < trace->models.size(); i++) {
        auto of_model = rows_of(trace->models[i], touches[i], by);
        rows.insert(rows.end(), of_model.begin(), of_model.end());
    }
    return as_json(std::move(rows));
}

// What tierd's memory stood for; rows that are not as tierd writes them are left out.
std::map<std::string, ServedFile> served_files(const json& models) {
    std::map<std::string, ServedFile> served;
    if (!models.is_object() || !models.contains("models") || !models["models"].is_array()) return served;
    for (const json& model : models["models"]) {
        if (!model.is_object()) continue;
        auto arena = model.find("arena"), file = model.find("path"), extent = model.find("extent_bytes");
        bool whole = arena != model.end() && arena->is_string() && file != model.end() && file->is_string() &&
                     extent != model.end() && extent->is_number_unsigned() && *extent > 0u;
        if (whole) served[arena->get<std::string>()] = {file->get<std::string>(), extent->get<uint64_t>()};
    }
    return served;
}

Result<json> hot_from_recording(const std::string& path, HotBy by, const std::vector<std::string>& weights,
                                const json& models) {
    ReplayConfig config;
    config.served = served_files(models);
    config.is_weights = [&](const std::string& mapped) { return is_weight_path(mapped, weights); };
    auto replay = replay_perf_data(path, config);
    if (!replay) return std::unexpected(replay.error());
    if (replay->counters.samples > 0 && replay->counters.samples == replay->counters.without_address)
        return fail(Code::bad_input, "show a recording", path,
                    "its samples have no addresses: record with -d");
    if (replay->files.empty() && replay->unknown_arenas > 0)
        return fail(Code::bad_input, "show a recording", path,
                    "its engines had their weights from tierd, which no longer says from where: run `tierctl "
                    "models --json > "
                    "FILE` while they run, record with --no-buildid-mmap where perf knows it, and give "
                    "--models FILE");
    if (by == HotBy::function || by == HotBy::thread) return as_json(replay->readers.rows(by));
    std::vector<HotRow> rows;
    for (const ReplayedFile& file : replay->files) {
        auto of_file = hot_rows(file.file->name, file.file->layout, file.file->map, file.extents, by);
        rows.insert(rows.end(), of_file.begin(), of_file.end());
    }
    return as_json(std::move(rows));
}

}  // namespace

Result<json> hot_from_file(const std::string& path, const std::string& by,
                           const std::vector<std::string>& weights, const json& models) {
    auto kind = hot_by(by);
    if (!kind)
        return fail(Code::bad_input, "show what is hot by", by,
                    "by tensor, layer, expert, extent, function or thread");
    return is_trace(path) ? hot_from_trace(path, *kind) : hot_from_recording(path, *kind, weights, models);
}

void name_functions(json& answer) {
    Symbols symbols;
    std::map<std::pair<std::string, std::string>, json> functions;  // by model and name
    for (json& row : answer.at("rows")) {
        std::string object = row.at("object").get<std::string>();
        if (!object.empty() && row.at("name").get<std::string>().empty()) {
            row["name"] = object.front() == '['
                              ? object
                              : symbols.function_at(object, row.at("offset_bytes").get<uint64_t>());
        } else if (row.at("name").get<std::string>().empty()) {
            row["name"] = "unknown";
        }
        auto [known, fresh] = functions.try_emplace(
            {row.at("model").get<std::string>(), row.at("name").get<std::string>()}, row);
        if (fresh) continue;
        json& sum = known->second;
        sum["heat"] = sum.at("heat").get<double>() + row.at("heat").get<double>();
        sum["samples"] = sum.at("samples").get<uint64_t>() + row.at("samples").get<uint64_t>();
    }
    json rows = json::array();
    for (auto& [key, row] : functions) rows.push_back(std::move(row));
    std::sort(rows.begin(), rows.end(), [](const json& one, const json& other) {
        return one.at("heat").get<double>() > other.at("heat").get<double>();
    });
    answer["rows"] = std::move(rows);
}

}  // namespace tierd
