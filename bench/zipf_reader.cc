// zipf_reader - reads extents of a weight file at random, by Zipf's law: a workload of which the popularity is known.
//   zipf_reader FILE EXTENT_BYTES SEED
// Prints one line of JSON when all of it was read once, then one for each line of its input: since the last one the reads, the
// seconds that they took, the CPU time that this thread ran and that it waited for a processor, its page
// faults, and the rank of each extent (0 is the most popular). Ends with its input.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

namespace {

double now_s() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// One load of every line, as a matrix product would.
uint64_t read_all(const char* begin, uint64_t bytes) {
    uint64_t sum = 0;
    for (uint64_t at = 0; at < bytes; at += 64)
        sum += *reinterpret_cast<const volatile uint64_t*>(begin + at);
    return sum;
}

// What this thread has done since it began.
struct Account {
    double wall_s = now_s();
    double user_s = 0, system_s = 0, ran_s = 0, queued_s = 0;
    long faults = 0;

    static Account now() {
        Account account;
        rusage usage{};
        ::getrusage(RUSAGE_THREAD, &usage);
        account.user_s =
            static_cast<double>(usage.ru_utime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec) / 1e6;
        account.system_s =
            static_cast<double>(usage.ru_stime.tv_sec) + static_cast<double>(usage.ru_stime.tv_usec) / 1e6;
        account.faults = usage.ru_minflt;
        unsigned long ran_ns = 0, queued_ns = 0;
        FILE* file = std::fopen("/proc/thread-self/schedstat", "r");
        if (file != nullptr && std::fscanf(file, "%lu %lu", &ran_ns, &queued_ns) == 2) {
            account.ran_s = static_cast<double>(ran_ns) / 1e9;
            account.queued_s = static_cast<double>(queued_ns) / 1e9;
        }
        if (file != nullptr) std::fclose(file);
        return account;
    }
};

bool line_waits() {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    return ::poll(&input, 1, 0) > 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    int fd = ::open(argv[1], O_RDONLY | O_CLOEXEC);
    struct stat st{};
    if (fd < 0 || ::fstat(fd, &st) != 0) return 1;
    const uint64_t extent_bytes = std::strtoull(argv[2], nullptr, 10);
    const auto size_bytes = static_cast<uint64_t>(st.st_size);
    const auto count = static_cast<size_t>(size_bytes / extent_bytes);
    void* mapped = ::mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) return 1;
    const char* weights = static_cast<const char*>(mapped);
    std::mt19937_64 random(std::strtoull(argv[3], nullptr, 10));
    std::vector<uint32_t> ranks(count);
    std::iota(ranks.begin(), ranks.end(), 0u);
    std::ranges::shuffle(ranks, random);
    std::vector<double> weight(count);
    for (size_t i = 0; i < count; i++) weight[i] = 1.0 / (ranks[i] + 1);
    std::discrete_distribution<size_t> next(weight.begin(), weight.end());
    uint64_t sum = read_all(weights, count * extent_bytes);
    fmt::print("{{\"ready\": true}}\n");
    std::fflush(stdout);
    uint64_t reads = 0;
    Account begin = Account::now();
    char line[256];
    while (true) {
        size_t extent = next(random);
        sum += read_all(weights + extent * extent_bytes, extent_bytes);
        reads++;
        if (reads % 64 != 0 || !line_waits()) continue;
        if (std::fgets(line, sizeof line, stdin) == nullptr) break;
        Account end = Account::now();
        fmt::print(
            "{{\"reads\": {}, \"seconds\": {}, \"user_s\": {}, \"system_s\": {}, \"ran_s\": {}, "
            "\"queued_s\": {}, "
            "\"faults\": {}, \"sum\": {}, \"ranks\": [{}]}}\n",
            reads, end.wall_s - begin.wall_s, end.user_s - begin.user_s, end.system_s - begin.system_s,
            end.ran_s - begin.ran_s, end.queued_s - begin.queued_s, end.faults - begin.faults, sum & 1,
            fmt::join(ranks, ", "));
        std::fflush(stdout);
        reads = 0;
        begin = Account::now();
    }
    return 0;
}
