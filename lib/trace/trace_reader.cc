#include "lib/trace/trace_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <unordered_map>

#include "lib/base/fd.h"
#include "lib/trace/varint.h"

namespace tierd {
namespace {

constexpr size_t kMaxTraceNameBytes = 4096;
constexpr uint64_t kMaxTimeNs = uint64_t{1} << 62;  // a century; keeps every sum in range

class Parser {
  public:
    explicit Parser(std::span<const char> bytes) : in_(bytes) {}

    Result<Trace> run() {
        if (in_.text(kTraceMagic.size()) != kTraceMagic) return bad("it does not begin as a trace does");
        uint64_t version = in_.number();
        if (!in_.bad() && version != 1 && version != kTraceVersion)
            return bad(fmt::format("it is of version {}, and this program reads version {}", version,
                                   kTraceVersion));
        trace_.complete = in_.number_to(1) != 0;
        if (!read_tiers()) return bad("its header is damaged");
        while (!in_.at_end() && !trace_.ended) {
            if (read_event()) continue;
            if (in_.at_end()) break;  // cut off within an event
            return bad(fmt::format("byte {} makes no sense", in_.at()));
        }
        return std::move(trace_);
    }

  private:
    struct Open {
        uint32_t extents = 0;
        int64_t touched = 0;
        int64_t moved = 0;
    };

    static std::unexpected<Error> bad(std::string why) {
        return fail(Code::bad_input, "read the trace: " + why, {}, "docs/trace-format.md describes a trace");
    }

    bool read_tiers() {
        uint64_t count = in_.number_to(TIERD_MAX_TIERS - 1);
        for (uint64_t i = 0; i < count && !in_.bad(); i++) {
            tierd_tier_info tier{};
            tier.kind = static_cast<uint8_t>(in_.number_to(NR_TIERD_KINDS - 1));
            tier.rank = static_cast<uint8_t>(in_.number_to(TIERD_MAX_TIERS));
            tier.capacity_bytes = in_.number_to(INT64_MAX);
            tier.latency_ns = static_cast<uint32_t>(in_.number_to(UINT32_MAX));
            tier.bandwidth_bytes_per_s = in_.number_to(INT64_MAX);
            trace_.tiers.push_back(tier);
        }
        return !in_.bad();
    }

    // False: the bytes end here, or are damaged.
    bool read_event() {
        std::string_view raw = in_.text(1);
        TraceEvent event;
        event.time_ns = now_ns_ + in_.number_to(kMaxTimeNs - now_ns_);
        if (in_.bad()) return false;
        event.kind = static_cast<TraceEventKind>(raw[0]);
        bool fine = false;
        switch (event.kind) {
            case TraceEventKind::open:
                fine = read_open(event);
                break;
            case TraceEventKind::close:
                fine = read_close(event);
                break;
            case TraceEventKind::missing:
            case TraceEventKind::minor:
            case TraceEventKind::filled:
            case TraceEventKind::evicted:
            case TraceEventKind::mapped:
            case TraceEventKind::armed:
                fine = read_place(event);
                break;
            case TraceEventKind::lost:
                event.index = static_cast<uint32_t>(in_.number_to(UINT32_MAX));
                fine = !in_.bad();
                break;
            case TraceEventKind::end:
                fine = trace_.ended = true;
                break;
        }
        if (!fine) return false;
        now_ns_ = event.time_ns;
        trace_.events.push_back(event);
        return true;
    }

    bool read_open(TraceEvent& event) {
        event.slot = static_cast<uint32_t>(in_.number_to(TIERD_MAX_MODELS - 1));
        TraceModel model;
        if (in_.bad() || open_.contains(event.slot) || !read_model(model)) return false;
        open_[event.slot] = {model.extent_count(), 0, 0};
        event.index = static_cast<uint32_t>(trace_.models.size());
        trace_.models.push_back(std::move(model));
        return true;
    }

    bool read_model(TraceModel& model) {
        model.name = in_.text(in_.number_to(kMaxTraceNameBytes));
        model.uid = static_cast<uint32_t>(in_.number_to(UINT32_MAX));
        model.cgroup = in_.number();
        model.layers = static_cast<uint32_t>(in_.number_to(UINT16_MAX));
        model.experts = static_cast<uint32_t>(in_.number_to(UINT16_MAX));
        uint64_t extents = 0;
        for (uint64_t left = in_.number(); left > 0 && !in_.bad(); left--) {
            TraceRun run = read_run();
            extents += run.count;
            if (extents > kMaxTraceExtents) return false;
            if (!in_.bad()) model.runs.push_back(run);
        }
        model.order_learned = in_.number_to(1) != 0;
        int64_t index = 0;
        for (uint64_t left = in_.number_to(extents); left > 0 && !in_.bad(); left--) {
            if (!step(index, extents)) return false;
            model.order.push_back(static_cast<uint32_t>(index));
        }
        return !in_.bad();
    }

    TraceRun read_run() {
        TraceRun run;
        run.count = static_cast<uint32_t>(in_.number_to(kMaxTraceExtents));
        run.bytes = static_cast<uint32_t>(in_.number_to(UINT32_MAX));
        // The reader's 0 is "none"; as 16 bits, 0 - 1 is just that.
        run.layer = static_cast<uint16_t>(in_.number_to(UINT16_MAX) - 1);
        run.expert = static_cast<uint16_t>(in_.number_to(UINT16_MAX) - 1);
        run.role = static_cast<uint8_t>(in_.number_to(NR_TIERD_ROLES - 1));
        return run;
    }

    bool read_close(TraceEvent& event) {
        event.slot = static_cast<uint32_t>(in_.number());
        return !in_.bad() && open_.erase(event.slot) > 0;
    }

    bool read_place(TraceEvent& event) {
        uint64_t slot = in_.number_to(TIERD_MAX_MODELS - 1);
        auto found = open_.find(static_cast<uint32_t>(slot));
        if (in_.bad() || found == open_.end()) return false;
        bool is_touch = event.kind == TraceEventKind::missing || event.kind == TraceEventKind::minor;
        int64_t& place = is_touch ? found->second.touched : found->second.moved;
        if (!step(place, found->second.extents)) return false;
        event.slot = found->first;
        event.index = static_cast<uint32_t>(place);
        return true;
    }

    // Moves `place` by the next number; false when that leads outside of the model.
    bool step(int64_t& place, uint64_t extents) {
        int64_t delta = in_.signed_number();
        auto most = static_cast<int64_t>(extents);
        if (in_.bad() || delta < -most || delta > most) return false;
        int64_t moved = place + delta;
        if (moved < 0 || moved >= most) return false;
        place = moved;
        return true;
    }

    VarintReader in_;
    Trace trace_;
    uint64_t now_ns_ = 0;
    std::unordered_map<uint32_t, Open> open_;
};

}  // namespace

Result<Trace> parse_trace(std::span<const char> bytes) {
    return Parser(bytes).run();
}

Result<Trace> read_trace(const std::string& path) {
    auto file = open_file(path, O_RDONLY);
    if (!file) return std::unexpected(file.error());
    struct stat facts;
    if (::fstat(file->get(), &facts) != 0) return os_error("look at the trace", path);
    if (!S_ISREG(facts.st_mode) || static_cast<uint64_t>(facts.st_size) > kMaxTraceBytes)
        return fail(Code::bad_input, "read the trace", path, "give a file of at most 256 MiB");
    std::string bytes(static_cast<size_t>(facts.st_size), '\0');
    size_t have = 0;
    while (have < bytes.size()) {
        ssize_t got = ::read(file->get(), bytes.data() + have, bytes.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return os_error("read the trace", path, Code::io);
        if (got == 0) break;
        have += static_cast<size_t>(got);
    }
    auto trace = parse_trace(std::span(bytes).first(have));
    if (!trace) {
        Error error = trace.error();
        error.object = path;
        return std::unexpected(std::move(error));
    }
    return trace;
}

}  // namespace tierd
