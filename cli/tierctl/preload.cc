#include "cli/tierctl/preload.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/tierctl/text.h"
#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd {
namespace {

using nlohmann::json;

constexpr auto kBetweenLooks = std::chrono::milliseconds(100);

// One line that rewrites itself; nothing where stderr is no terminal.
class Progress {
  public:
    void show(const json& job) {
        if (!terminal_) return;
        uint64_t done_bytes = job.at("done_bytes").get<uint64_t>();
        uint64_t total_bytes = job.at("total_bytes").get<uint64_t>();
        double seconds = static_cast<double>(monotonic_ns() - began_ns_) / 1e9;
        auto rate = static_cast<uint64_t>(static_cast<double>(done_bytes) / std::max(seconds, 0.001));
        fmt::print(stderr, "\r[{}] {:>5}  {} of {}, {}/s\x1b[K", bar(done_bytes, total_bytes, 30),
                   percent(done_bytes, total_bytes), format_bytes(done_bytes), format_bytes(total_bytes),
                   format_bytes(rate));
    }
    ~Progress() {
        if (terminal_) std::fputs("\r\x1b[K", stderr);
    }

  private:
    const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
    const uint64_t began_ns_ = monotonic_ns();
};

}  // namespace

Answer follow_job(const Client& client, Answer job, bool wait) {
    if (!job || !wait) return job;
    std::string target = fmt::format("/v1/jobs/{}", job->at("job").get<uint64_t>());
    Progress progress;
    while (!job->at("finished").get<bool>()) {
        progress.show(*job);
        std::this_thread::sleep_for(kBetweenLooks);
        job = client.call("GET", target);
        if (!job) return job;
    }
    auto error = job->at("error").get<std::string>();
    if (!error.empty())
        return std::unexpected(Failure{Exit::failed, job->at("what").get<std::string>() + ": " + error});
    return job;
}

Answer preload(const Client& client, const std::string& model, bool wait) {
    return follow_job(client, client.call("POST", "/v1/models/" + percent_encode(model) + "/preload"), wait);
}

}  // namespace tierd
