#include "cli/tierctl/trace_record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "cli/tierctl/text.h"
#include "lib/base/base64.h"
#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "lib/trace/trace.h"

namespace tierd {
namespace {

using nlohmann::json;

constexpr auto kTarget = "/v1/trace";
constexpr long kBetweenFetchesMs = 100;
// Room for the last two pieces, so that `policy test` can read the file.
constexpr size_t kEnoughBytes = kMaxTraceBytes - 64 * kMiB;

struct TraceRecord {
    std::string file;
    uint64_t seconds = 0;  // 0: until interrupted
    bool complete = false;
};

// Until the pause is over, or the user wants an end. The signals are blocked, so none is missed between two looks.
bool interrupted(const sigset_t& signals, long pause_ms) {
    timespec pause{pause_ms / 1000, pause_ms % 1000 * 1'000'000};
    return ::sigtimedwait(&signals, nullptr, &pause) > 0;
}

class Recording {
  public:
    Recording(const Client& client, const TraceRecord& wanted) : client_(client), wanted_(wanted) {}

    Output run() {
        sigset_t signals;
        ::sigemptyset(&signals);
        for (int signal : {SIGINT, SIGTERM}) ::sigaddset(&signals, signal);
        ::sigprocmask(SIG_BLOCK, &signals, nullptr);
        // The file first: tierd must not record for one that can't be written.
        file_ = Fd(::open(wanted_.file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        if (!file_) return std::unexpected(trouble());
        Answer begun = client_.call("POST", kTarget, wanted_.complete ? R"({"complete": true})" : "");
        if (!begun) return std::unexpected(begun.error());  // another's recording is not ours to end
        if (auto kept = keep(begun); !kept) return give_up(kept.error());
        uint64_t end_ns = monotonic_ns() + wanted_.seconds * 1000 * kNsPerMs;
        auto over = [&] { return wanted_.seconds > 0 && monotonic_ns() >= end_ns; };
        while (!over() && written_ < kEnoughBytes && !interrupted(signals, kBetweenFetchesMs))
            if (auto kept = keep(client_.call("GET", kTarget)); !kept) return give_up(kept.error());
        return keep(client_.call("DELETE", kTarget));
    }

  private:
    Failure trouble() const {
        return {Exit::failed, fmt::format("write {}: {}", wanted_.file, std::strerror(errno))};
    }

    Output give_up(const Failure& why) {
        (void)client_.call("DELETE", kTarget);
        return std::unexpected(why);
    }

    // Writes a piece. Returns what to tell of all so far.
    Output keep(const Answer& piece) {
        if (!piece) return std::unexpected(piece.error());
        auto bytes = from_base64(piece->at("bytes").get_ref<const std::string&>());
        if (!bytes)
            return std::unexpected(Failure{Exit::unreachable, "tierd's answer is damaged: it is not base64"});
        for (std::string_view left = *bytes; !left.empty();) {
            ssize_t wrote = ::write(file_.get(), left.data(), left.size());
            if (wrote < 0 && errno == EINTR) continue;
            if (wrote < 0) return std::unexpected(trouble());
            left.remove_prefix(static_cast<size_t>(wrote));
        }
        written_ += bytes->size();
        uint64_t lost = piece->at("events_lost").get<uint64_t>();
        return fmt::format("{}: {} events{}, {}\n", escape(wanted_.file), piece->at("events").get<uint64_t>(),
                           lost > 0 ? fmt::format(" and {} lost", lost) : "", format_bytes(written_));
    }

    const Client& client_;
    const TraceRecord& wanted_;
    Fd file_;
    size_t written_ = 0;
};

}  // namespace

void add_trace_commands(CLI::App& app, Chosen& chosen) {
    CLI::App* trace = app.add_subcommand("trace", "Record what happens, for `tierctl policy test`");
    trace->require_subcommand(1);
    auto record = std::make_shared<TraceRecord>();
    CLI::App* sub =
        trace->add_subcommand("record", "Write what happens to extents into a file, until interrupted");
    sub->add_option("FILE", record->file, "The trace (docs/trace-format.md); overwritten")->required();
    sub->add_option("--seconds", record->seconds, "End by itself after so long")
        ->check(CLI::Range(1, 86'400 * 366));
    sub->add_flag(
        "--complete", record->complete,
        "Make every touch be seen: weights are unmapped again as engines touch them, and each touch costs "
        "its thread a fault of about 0.1 ms");
    sub->callback([&chosen, record] {
        chosen = [record](const Client& client) { return Recording(client, *record).run(); };
    });
}

}  // namespace tierd
