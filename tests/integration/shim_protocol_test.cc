// The preloaded library against a tierd that a test can make late, wrong, hung or dead at a chosen moment.
//
// Each client is a process of its own that loads the library and calls its functions by name, so that each
// begins with a library that knows nothing.
#define BOOST_TEST_MODULE shim_protocol
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <functional>
#include <sstream>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "tests/integration/fake_tierd.h"
#include "tests/integration/harness.h"
#include "tests/integration/pattern.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSeed = 11;
constexpr uint64_t kFileBytes = 12 * kMiB + 4096 + 17;
constexpr uint64_t kMapped = 12 * kMiB + 2 * 4096;  // to the end of the last page

std::string shim_library() {
    return programs_dir() + "/lib/libtierd_shim.so";
}

// The client's side: the library's functions, and how it tells the test what is wrong.
class Engine {
  public:
    Engine(int to_test, int from_test) : to_test_(to_test), from_test_(from_test) {}

    void load() {
        void* library = ::dlopen(shim_library().c_str(), RTLD_NOW | RTLD_LOCAL);
        check(library != nullptr, "the library loads");
        mmap = reinterpret_cast<decltype(mmap)>(::dlsym(library, "mmap"));
        munmap = reinterpret_cast<decltype(munmap)>(::dlsym(library, "munmap"));
        mprotect = reinterpret_cast<decltype(mprotect)>(::dlsym(library, "mprotect"));
        madvise = reinterpret_cast<decltype(madvise)>(::dlsym(library, "madvise"));
        close = reinterpret_cast<decltype(close)>(::dlsym(library, "close"));
        close_range = reinterpret_cast<decltype(close_range)>(::dlsym(library, "close_range"));
    }

    void check(bool right, const std::string& what) const {
        if (right) return;
        std::string line = "client: not so: " + what + " (errno " + std::to_string(errno) + ")\n";
        (void)!::write(2, line.data(), line.size());
        ::_exit(1);
    }

    // Says that this point is reached and waits until the test goes on.
    void step() const {
        char byte = 's';
        check(::write(to_test_, &byte, 1) == 1 && ::read(from_test_, &byte, 1) == 1, "the test goes on");
    }

    char* map(const std::string& path, int prot = PROT_READ, int flags = MAP_PRIVATE,
              uint64_t length = kMapped, uint64_t offset = 0, int open_flags = O_RDONLY) const {
        int fd = ::open(path.c_str(), open_flags | O_CLOEXEC);
        void* address = mmap(nullptr, length, prot, flags, fd, static_cast<off_t>(offset));
        ::close(fd);
        check(address != MAP_FAILED, "mmap of " + path);
        return static_cast<char*>(address);
    }

    // Every byte of [from, from + length) of a whole-file mapping.
    void reads_right(const char* address, uint64_t from = 0, uint64_t length = kMapped) const {
        for (uint64_t at = from; at < from + length && at < kFileBytes; at += 4096) {
            uint64_t part = std::min<uint64_t>({4096, from + length - at, kFileBytes - at});
            check(count_wrong(kSeed, at, address + at, part) == 0, "the bytes at " + std::to_string(at));
        }
    }

    // What stands behind an address: the name in /proc/self/maps, "" for nothing.
    std::string behind(const char* address) const {
        std::ifstream maps("/proc/self/maps");
        for (std::string line; std::getline(maps, line);) {
            uint64_t low = 0, high = 0;
            std::sscanf(line.c_str(), "%lx-%lx", &low, &high);
            auto at = reinterpret_cast<uint64_t>(address);
            if (low > at || at >= high) continue;
            auto name = line.find('/');
            return name == std::string::npos ? "anonymous" : line.substr(name);
        }
        return "";
    }
    bool on_arena(const char* address) const {
        return behind(address).find("fake-arena") != std::string::npos;
    }
    bool on_file(const char* address) const { return behind(address).find(".weights") != std::string::npos; }

    // True while the page is in this process's page table.
    bool is_present(const char* address) const {
        int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        uint64_t entry = 0;
        auto at = static_cast<off_t>(reinterpret_cast<uint64_t>(address) / 4096 * sizeof entry);
        check(::pread(fd, &entry, sizeof entry, at) == sizeof entry, "the page table can be read");
        ::close(fd);
        return (entry >> 63) != 0;
    }

    void* (*mmap)(void*, size_t, int, int, int, off_t) = nullptr;
    int (*munmap)(void*, size_t) = nullptr;
    int (*mprotect)(void*, size_t, int) = nullptr;
    int (*madvise)(void*, size_t, int) = nullptr;
    int (*close)(int) = nullptr;
    int (*close_range)(unsigned, unsigned, int) = nullptr;

  private:
    int to_test_;
    int from_test_;
};

// A client process, from the test's side.
class ClientProcess {
  public:
    ClientProcess(const std::string& socket, const std::function<void(Engine&)>& body) {
        int to[2], from[2];
        BOOST_REQUIRE(::pipe2(to, O_CLOEXEC) == 0 && ::pipe2(from, O_CLOEXEC) == 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(to[1]);
            ::close(from[0]);
            ::setenv("TIERD_SOCKET", socket.c_str(), 1);
            ::setenv("TIERD_MATCH", "*.weights", 1);
            Engine engine(from[1], to[0]);
            engine.step();
            engine.load();
            body(engine);
            ::_exit(0);
        }
        to_ = Fd(to[1]);
        from_ = Fd(from[0]);
        ::close(to[0]);
        ::close(from[1]);
    }
    ClientProcess(ClientProcess&& other) noexcept
        : pid_(std::exchange(other.pid_, -1)), to_(std::move(other.to_)), from_(std::move(other.from_)) {}
    ~ClientProcess() {
        if (pid_ > 0) ::kill(pid_, SIGKILL);
        if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    }

    // Waits for the client's next step().
    void reached() {
        char byte = 0;
        BOOST_REQUIRE(::read(from_.get(), &byte, 1) == 1);
    }
    void go_on() {
        char byte = 'g';
        BOOST_REQUIRE(::write(to_.get(), &byte, 1) == 1);
    }
    void ends_well() {
        int status = -1;
        BOOST_REQUIRE(::waitpid(pid_, &status, 0) == pid_);
        pid_ = -1;
        BOOST_TEST(status == 0);
    }

  private:
    pid_t pid_ = -1;
    Fd to_;
    Fd from_;
};

struct Scene {
    explicit Scene(const FakePlan& plan = {}) { prepare(plan); }
    void prepare(const FakePlan& plan) {
        make_file(path, kSeed, kFileBytes);
        tierd.emplace(socket, path, plan);
    }
    // Runs `body` in a client process up to its first step() or its end.
    ClientProcess client(const std::function<void(Engine&)>& body) {
        ClientProcess process(socket, body);
        process.reached();
        tierd->start();
        process.go_on();
        return process;
    }
    // Orders are carried out one after the other: once this one is acknowledged, so are those before it.
    void await_orders() {
        size_t before = tierd->heard().fallen_back.size();
        tierd->command_fall_back(FakeTierd::kFile, kMapped - 4096, 4096);
        BOOST_REQUIRE(comes_true([&] { return tierd->heard().fallen_back.size() > before; }));
    }
    void show(uint64_t offset_bytes) { tierd->order_show_touch(FakeTierd::kFile, offset_bytes, 4096); }
    size_t touches_of(uint64_t offset_bytes) const {
        return static_cast<size_t>(std::ranges::count(tierd->heard().touches, offset_bytes));
    }

    WorkDir dir;
    std::string path = dir.file("model.weights");
    std::string socket = dir.file("fake.sock");
    std::optional<FakeTierd> tierd;
};

template <class Body>
uint64_t milliseconds(Body body) {
    uint64_t begin_ns = monotonic_ns();
    body();
    return (monotonic_ns() - begin_ns) / 1'000'000;
}

std::set<std::string> lines_of(const std::string& command) {
    FILE* pipe = ::popen(command.c_str(), "r");
    BOOST_REQUIRE(pipe != nullptr);
    std::set<std::string> lines;
    char line[4096];
    while (std::fgets(line, sizeof line, pipe) != nullptr)
        lines.insert(std::string(line, std::strcspn(line, "\n")));
    BOOST_REQUIRE(::pclose(pipe) == 0);
    return lines;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_library_exports_what_it_interposes_and_nothing_else) {
    const std::set<std::string> wanted = {"close",      "close_range", "closefrom",     "madvise",
                                          "mlock",      "mlock2",      "mlockall",      "mmap",
                                          "mmap64",     "mprotect",    "mremap",        "munlock",
                                          "munlockall", "munmap",      "pkey_mprotect", "posix_madvise"};
    std::set<std::string> seen = lines_of("nm -D --defined-only --format=just-symbols " + shim_library());
    // The CUDA half, where it is built: the driver's functions of cuda-coverage.md, the ways to find them, and what engines
    // read weights with.
    const std::set<std::string> of_cuda = {"dlsym", "dlvsym", "read", "pread", "pread64", "fread"};
    std::erase_if(seen,
                  [&](const std::string& name) { return name.starts_with("cu") || of_cuda.contains(name); });
    BOOST_TEST(seen == wanted, boost::test_tools::per_element());
}

// The loader comes with libc and is in every process.
BOOST_AUTO_TEST_CASE(the_library_needs_no_other_library_than_libc_and_its_loader) {
    auto needed = lines_of("readelf -d " + shim_library() + " | grep NEEDED");
    BOOST_TEST(!needed.empty());
    std::erase_if(needed, [](const std::string& line) {
        return line.find("[libc.so.6]") != std::string::npos || line.find("[ld-linux") != std::string::npos;
    });
    BOOST_TEST(needed == std::set<std::string>{}, boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(a_touch_is_served_and_the_address_is_congruent_to_the_offset, Scene) {
    const uint64_t offset = 2 * kMiB + 3 * 4096;
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path, PROT_READ, MAP_SHARED | MAP_POPULATE);
        engine.check(engine.on_arena(all), "the mapping stands on the arena");
        engine.reads_right(all);
        char* part = engine.map(path, PROT_READ, MAP_PRIVATE, 3 * kMiB, offset);
        engine.check(reinterpret_cast<uint64_t>(part) % (2 * kMiB) == offset % (2 * kMiB), "congruent");
        engine.check(count_wrong(kSeed, offset, part, 3 * kMiB) == 0, "the part's bytes");
        engine.check(engine.munmap(part, 3 * kMiB) == 0 && engine.behind(part).empty(), "munmap");
    });
    process.ends_well();
    const Heard heard = tierd->heard();
    BOOST_TEST(heard.hellos == 1u);
    BOOST_REQUIRE(heard.attaches.size() == 1u);
    BOOST_TEST(std::string(heard.attaches[0].path) == path);
    BOOST_TEST(heard.attaches[0].shared == 1);
    BOOST_TEST(heard.attaches[0].writable == 0);
    BOOST_REQUIRE(heard.maps.size() == 2u);
    BOOST_TEST(heard.maps[0].length_bytes == kMapped);
    BOOST_TEST(heard.maps[1].offset_bytes == offset);
    BOOST_TEST(heard.will_need == 1u);
    BOOST_REQUIRE(heard.unmaps.size() == 1u);
    BOOST_TEST(heard.unmaps[0].address == heard.maps[1].address);
    BOOST_TEST(heard.unmaps[0].length_bytes == 3 * kMiB);
}

BOOST_FIXTURE_TEST_CASE(what_is_no_candidate_is_the_kernels_and_tierd_hears_nothing, Scene) {
    const std::string small = dir.file("small.weights");
    const std::string other = dir.file("model.data");
    make_file(small, kSeed, 64 * kKiB);
    make_file(other, kSeed, kFileBytes);
    auto process = client([&](Engine& engine) {
        auto is_kernels = [&](char* address, const char* what) {
            engine.check(!engine.on_arena(address), what);
        };
        is_kernels(engine.map(path, PROT_READ | PROT_EXEC), "executable");
        is_kernels(engine.map(path, PROT_NONE), "no access");
        is_kernels(engine.map(path, PROT_READ, MAP_SHARED, kMapped, 0, O_RDWR), "shared, could be written");
        is_kernels(engine.map(path, PROT_READ, MAP_PRIVATE, kMapped + 4096), "beyond the file's end");
        is_kernels(engine.map(small, PROT_READ, MAP_PRIVATE, 64 * kKiB), "small");
        is_kernels(engine.map(other), "neither header nor name");
    });
    process.ends_well();
    BOOST_TEST(tierd->heard().hellos == 0u);
}

BOOST_FIXTURE_TEST_CASE(files_are_known_by_their_header, Scene) {
    const std::string gguf = dir.file("a.bin");
    const std::string tensors = dir.file("b.bin");
    const uint64_t header_bytes = 1000;
    for (const auto& name : {gguf, tensors}) make_file(name, kSeed, 2 * kMiB);
    std::fstream(gguf, std::ios::in | std::ios::out | std::ios::binary).write("GGUF", 4);
    std::fstream out(tensors, std::ios::in | std::ios::out | std::ios::binary);
    out.write(reinterpret_cast<const char*>(&header_bytes), 8).write("{", 1).flush();
    auto process = client([&](Engine& engine) {
        engine.map(gguf, PROT_READ, MAP_PRIVATE, 2 * kMiB);
        engine.map(tensors, PROT_READ, MAP_PRIVATE, 2 * kMiB);
    });
    process.ends_well();
    const Heard heard = tierd->heard();
    BOOST_REQUIRE(heard.attaches.size() == 2u);
    BOOST_TEST(std::string(heard.attaches[0].path) == gguf);
    BOOST_TEST(std::string(heard.attaches[1].path) == tensors);
}

BOOST_FIXTURE_TEST_CASE(an_order_for_a_part_is_carried_out_and_acknowledged, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.reads_right(all, 0, 4 * kMiB);
        engine.step();
        engine.check(engine.on_file(all + 2 * kMiB) && engine.on_file(all + 4 * kMiB - 1),
                     "the part is the file's");
        engine.check(engine.on_arena(all) && engine.on_arena(all + 4 * kMiB), "the rest is the arena's");
        engine.reads_right(all);
    });
    process.reached();
    uint32_t sequence = tierd->command_fall_back(FakeTierd::kFile, 2 * kMiB, 2 * kMiB);
    BOOST_TEST(comes_true([&] { return !tierd->heard().fallen_back.empty(); }));
    process.go_on();
    process.ends_well();
    const Heard heard = tierd->heard();
    BOOST_REQUIRE(heard.fallen_back.size() == 1u);
    BOOST_TEST(heard.fallen_back[0].header.sequence == sequence);
    BOOST_TEST(heard.fallen_back[0].status == 0);
}

BOOST_FIXTURE_TEST_CASE(an_order_for_everything_ends_the_session, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.reads_right(all, 0, kMiB);
        engine.step();
        engine.check(engine.on_file(all) && engine.on_file(all + kMapped - 1), "all is the file's");
        engine.reads_right(all);
        engine.check(engine.on_file(engine.map(path)), "a new mapping is the kernel's at once");
    });
    process.reached();
    tierd->command_fall_back(0, 0, 0);
    BOOST_TEST(comes_true([&] { return !tierd->heard().fallen_back.empty(); }));
    process.go_on();
    process.ends_well();
}

BOOST_FIXTURE_TEST_CASE(a_touch_in_the_hands_of_a_dead_tierd_ends_within_a_second, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.step();
        uint64_t took = milliseconds([&] { engine.reads_right(all); });
        engine.check(took < 1000, "no stall of " + std::to_string(took) + " ms");
        engine.check(engine.on_file(all), "the mapping is the kernel's");
    });
    process.reached();
    tierd->die();
    process.go_on();
    process.ends_well();
}

BOOST_FIXTURE_TEST_CASE(a_touch_in_the_hands_of_a_hung_tierd_ends_within_a_second, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.step();
        uint64_t took = milliseconds([&] { engine.reads_right(all); });
        engine.check(took < 1000, "no stall of " + std::to_string(took) + " ms");
        engine.check(engine.on_file(all), "the mapping is the kernel's");
    });
    process.reached();
    tierd->hang();
    process.go_on();
    process.ends_well();
}

BOOST_AUTO_TEST_CASE(a_socket_that_never_answers_costs_one_deadline_once) {
    Scene scene({.answer_hello = false});
    auto process = scene.client([&](Engine& engine) {
        char* first = nullptr;
        uint64_t took = milliseconds([&] { first = engine.map(scene.path); });
        engine.check(took >= 400 && took < 1000, "one deadline, not " + std::to_string(took) + " ms");
        engine.reads_right(first);
        took = milliseconds([&] {
            for (int i = 0; i < 20; i++)
                engine.check(engine.on_file(engine.map(scene.path)), "the kernel's mapping");
        });
        engine.check(took < 400, "later mappings wait for nothing, not " + std::to_string(took) + " ms");
    });
    process.ends_well();
}

BOOST_AUTO_TEST_CASE(without_a_socket_every_mapping_is_the_kernels_at_once) {
    Scene scene;
    scene.tierd.reset();
    ClientProcess process(scene.socket, [&](Engine& engine) {
        uint64_t took = milliseconds([&] { engine.reads_right(engine.map(scene.path)); });
        engine.check(took < 1000, "no wait");
    });
    process.reached();
    process.go_on();
    process.ends_well();
}

BOOST_AUTO_TEST_CASE(an_answer_of_another_protocol_is_refused) {
    Scene scene({.reply_magic = 0x12345678});
    auto process = scene.client([&](Engine& engine) {
        char* all = engine.map(scene.path);
        engine.check(engine.on_file(all), "the kernel's mapping");
        engine.reads_right(all);
    });
    process.ends_well();
    BOOST_TEST(scene.tierd->heard().attaches.empty());
}

BOOST_AUTO_TEST_CASE(a_refused_file_is_the_kernels_and_the_session_lives_on) {
    Scene scene({.attach_status = -EINVAL});
    auto process = scene.client([&](Engine& engine) {
        for (int i = 0; i < 2; i++) engine.reads_right(engine.map(scene.path));
    });
    process.ends_well();
    BOOST_TEST(scene.tierd->heard().hellos == 1u);
    BOOST_TEST(scene.tierd->heard().attaches.size() == 2u);
    BOOST_TEST(scene.tierd->heard().maps.empty());
}

BOOST_AUTO_TEST_CASE(a_map_without_an_answer_becomes_the_kernels_within_a_second) {
    Scene scene({.answer_map = false});
    auto process = scene.client([&](Engine& engine) {
        char* all = nullptr;
        uint64_t took = milliseconds([&] { all = engine.map(scene.path); });
        engine.check(took < 1000, "no wait of " + std::to_string(took) + " ms");
        engine.check(engine.on_file(all), "the kernel's mapping");
        engine.reads_right(all);
    });
    process.ends_well();
}

BOOST_FIXTURE_TEST_CASE(private_pages_survive_the_death_of_tierd, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path, PROT_READ | PROT_WRITE);
        engine.check(engine.on_arena(all), "the mapping stands on the arena");
        // Few runs of written pages in the first 2 MiB, too many to map the file between them in the next.
        for (uint64_t at : {uint64_t{0}, 40 * 4096ul}) all[at] = 'x';
        for (uint64_t at = 2 * kMiB; at < 4 * kMiB; at += 8192) all[at] = 'x';
        engine.step();
        engine.reads_right(all, 8 * kMiB, 4096);  // waits until all is the kernel's
        for (uint64_t at = 0; at < kFileBytes; at += 4096) {
            bool written = at == 0 || at == 40 * 4096 || (at >= 2 * kMiB && at < 4 * kMiB && at % 8192 == 0);
            if (written) {
                engine.check(all[at] == 'x', "the own byte at " + std::to_string(at));
                all[at] = static_cast<char>(pattern_word(kSeed, at / 8));
            }
        }
        engine.reads_right(all);
        engine.check(engine.madvise(all, 4 * kMiB, MADV_DONTNEED) == 0, "MADV_DONTNEED");
        engine.check(engine.on_file(all) && engine.on_file(all + 2 * kMiB), "nothing of the arena is left");
        engine.reads_right(all);
    });
    process.reached();
    tierd->die();
    process.go_on();
    process.ends_well();
}

BOOST_FIXTURE_TEST_CASE(a_forked_child_has_the_files_bytes_and_its_parents_writes, Scene) {
    auto process = client([&](Engine& engine) {
        char* readable = engine.map(path);
        char* writable = engine.map(path, PROT_READ | PROT_WRITE);
        for (uint64_t at = 4 * kMiB; at < 6 * kMiB; at += 8192) writable[at] = 'x';
        writable[100] = 'y';
        pid_t child = ::fork();
        if (child == 0) {
            engine.check(engine.on_file(readable), "the child's mapping is the kernel's");
            engine.reads_right(readable);
            engine.check(writable[100] == 'y', "the parent's byte");
            for (uint64_t at = 4 * kMiB; at < 6 * kMiB; at += 8192)
                engine.check(writable[at] == 'x', "the parent's bytes");
            engine.reads_right(writable, 6 * kMiB, kMapped - 6 * kMiB);
            ::_exit(0);
        }
        int status = -1;
        engine.check(::waitpid(child, &status, 0) == child && status == 0, "the child ends well");
        engine.check(engine.on_arena(readable) && engine.on_arena(writable), "the parent keeps its mappings");
        engine.reads_right(readable);
    });
    process.ends_well();
    BOOST_TEST(tierd->heard().hellos == 1u);
}

BOOST_FIXTURE_TEST_CASE(an_engine_that_closes_every_descriptor_goes_on_and_can_fall_back, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.reads_right(all, 0, kMiB);
        // As a program does that becomes a daemon; then the numbers are taken by other files.
        for (int fd = 32; fd < 2500; fd++) engine.close(fd);
        engine.check(engine.close_range(2500, ~0u, 0) == 0, "close_range");
        for (int i = 0; i < 64; i++) engine.check(::fcntl(2, F_DUPFD, 900) >= 0, "take a number");
        engine.reads_right(all, 0, 8 * kMiB);
        engine.check(engine.on_arena(all), "the mapping stands on the arena still");
        engine.step();
        engine.reads_right(all);
        engine.check(engine.on_file(all), "the mapping is the kernel's");
    });
    process.reached();
    tierd->die();
    process.go_on();
    process.ends_well();
}

BOOST_FIXTURE_TEST_CASE(a_part_with_another_protection_is_a_region_of_its_own, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.check(engine.mprotect(all + kMiB, kMiB, PROT_NONE) == 0, "no access");
        engine.reads_right(all, 0, kMiB);
        engine.reads_right(all, 2 * kMiB, 4 * kMiB);
        engine.check(engine.mprotect(all + kMiB, kMiB, PROT_READ) == 0, "access again");
        engine.reads_right(all);
        engine.check(engine.mprotect(all, 4096, PROT_READ | PROT_WRITE) == 0,
                     "a private page may become writable");
        engine.check(engine.on_file(all) && engine.on_arena(all + 4096), "only that page leaves the arena");
        all[1] = 'x';
        engine.reads_right(all, 4096, kMapped - 4096);
    });
    process.ends_well();
    const Heard heard = tierd->heard();
    BOOST_REQUIRE(heard.maps.size() == 3u);
    BOOST_TEST(heard.maps[1].offset_bytes == kMiB);
    BOOST_TEST(heard.maps[1].length_bytes == kMiB);
    BOOST_TEST(heard.unmaps.size() == 1u);
}

BOOST_FIXTURE_TEST_CASE(a_page_that_tierd_asks_for_shows_its_next_touch_once, Scene) {
    const uint64_t page = 3 * kMiB + 5 * 4096;
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        char* part = engine.map(path, PROT_READ, MAP_PRIVATE, 3 * kMiB, 2 * kMiB);
        engine.reads_right(all);
        engine.check(count_wrong(kSeed, 2 * kMiB, part, 3 * kMiB) == 0, "the part's bytes");
        engine.step();
        engine.check(!engine.is_present(all + page), "the page is gone from the mapping");
        engine.check(!engine.is_present(part + page - 2 * kMiB), "and wherever else it stands");
        engine.check(engine.is_present(all + page - 4096) && engine.is_present(all + page + 4096),
                     "its neighbours are not");
        engine.reads_right(all);
        engine.reads_right(all);
        engine.check(count_wrong(kSeed, 2 * kMiB, part, 3 * kMiB) == 0, "the part's bytes again");
    });
    process.reached();
    BOOST_TEST(touches_of(page) == 2u);  // the first touch in each mapping
    show(page);
    await_orders();
    process.go_on();
    process.ends_well();
    BOOST_TEST(touches_of(page) == 4u);
    BOOST_TEST(touches_of(page - 4096) == 2u);
}

BOOST_FIXTURE_TEST_CASE(requests_to_show_touches_that_make_no_sense_change_nothing, Scene) {
    auto process = client([&](Engine& engine) {
        char* part = engine.map(path, PROT_READ, MAP_PRIVATE, 4 * kMiB, 2 * kMiB);
        engine.check(count_wrong(kSeed, 2 * kMiB, part, 4 * kMiB) == 0, "the part's bytes");
        engine.step();
        for (uint64_t at = 0; at < 4 * kMiB; at += 4096)
            engine.check(engine.is_present(part + at), "page " + std::to_string(at));
        engine.check(engine.on_arena(part), "the session lives on");
    });
    process.reached();
    const uint64_t before = tierd->heard().touches.size();
    for (uint64_t offset : {uint64_t{0}, 2 * kMiB - 4096, 6 * kMiB, kFileBytes, UINT64_MAX, UINT64_MAX - 4096,
                            ~uint64_t{4095}, uint64_t{1} << 63, UINT64_MAX - 2 * kMiB + 1})
        show(offset);
    tierd->order_show_touch(FakeTierd::kFile + 1, 3 * kMiB, 4096);
    tierd->order_show_touch(0, 3 * kMiB, 4096);
    await_orders();
    process.go_on();
    process.ends_well();
    BOOST_TEST(tierd->heard().touches.size() == before);
}

BOOST_FIXTURE_TEST_CASE(what_the_engine_wrote_is_never_unmapped_to_show_a_touch, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path, PROT_READ | PROT_WRITE);
        engine.reads_right(all);
        all[4 * kMiB] = 'x';
        all[6 * kMiB] = 'y';
        engine.check(engine.mprotect(all + 6 * kMiB, 4096, PROT_READ) == 0, "written, then made readable");
        engine.step();
        engine.check(all[4 * kMiB] == 'x' && all[6 * kMiB] == 'y', "what was written");
        engine.reads_right(all, 0, 4 * kMiB);
        engine.reads_right(all, 8 * kMiB, kMapped - 8 * kMiB);
    });
    process.reached();
    for (uint64_t offset : {4 * kMiB, 6 * kMiB, 8 * kMiB}) show(offset);
    await_orders();
    process.go_on();
    process.ends_well();
}

BOOST_FIXTURE_TEST_CASE(memory_that_took_the_place_of_weights_is_left_alone, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.reads_right(all);
        engine.check(engine.munmap(all + 2 * kMiB, 2 * kMiB) == 0, "munmap");
        auto own = [&](char* at, int flags) {
            void* got =
                engine.mmap(at, 2 * kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
            engine.check(got == at, "memory of its own");
            std::memset(at, 'z', 2 * kMiB);
        };
        own(all + 2 * kMiB, MAP_FIXED_NOREPLACE);  // where nothing was
        own(all + 4 * kMiB, MAP_FIXED);            // over weights
        engine.step();
        for (uint64_t at = 2 * kMiB; at < 6 * kMiB; at++)
            engine.check(all[at] == 'z', "its memory at " + std::to_string(at));
        engine.reads_right(all, 0, 2 * kMiB);
    });
    process.reached();
    for (uint64_t offset = 0; offset < kMapped; offset += 64 * kKiB) show(offset);
    await_orders();
    process.go_on();
    process.ends_well();
}

BOOST_FIXTURE_TEST_CASE(a_touch_that_is_to_be_shown_is_answered_by_the_file_when_tierd_has_died, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.reads_right(all);
        engine.step();
        engine.reads_right(all);
        engine.check(engine.on_file(all), "the mapping is the kernel's");
    });
    process.reached();
    for (uint64_t offset = 0; offset < kMapped; offset += 64 * kKiB) show(offset);
    tierd->die();
    process.go_on();
    process.ends_well();
}

BOOST_FIXTURE_TEST_CASE(a_forked_child_and_its_parent_read_on_while_touches_are_shown, Scene) {
    auto process = client([&](Engine& engine) {
        char* all = engine.map(path);
        engine.reads_right(all);
        engine.step();
        pid_t child = ::fork();
        if (child == 0) {
            for (int round = 0; round < 3; round++) engine.reads_right(all);
            ::_exit(engine.on_file(all) ? 0 : 1);
        }
        for (int round = 0; round < 3; round++) engine.reads_right(all);
        int status = -1;
        engine.check(::waitpid(child, &status, 0) == child && status == 0, "the child ends well");
        engine.check(engine.on_arena(all), "the parent keeps its mapping");
        engine.step();
    });
    process.reached();
    process.go_on();
    // Before, while and after it forks.
    for (int round = 0; round < 20; round++)
        for (uint64_t offset = 0; offset < kMapped - 4096; offset += 256 * kKiB) show(offset);
    process.reached();
    process.go_on();
    process.ends_well();
}

static int huge_page_count(const char* what) {
    std::ifstream in(std::string("/sys/kernel/mm/hugepages/hugepages-2048kB/") + what);
    int count = 0;
    return in >> count ? count : 0;
}

static boost::test_tools::assertion_result has_free_huge_pages(boost::unit_test::test_unit_id) {
    int more = huge_page_count("nr_overcommit_hugepages") - huge_page_count("surplus_hugepages");
    boost::test_tools::assertion_result enough(huge_page_count("free_hugepages") + std::max(more, 0) >= 8);
    enough.message() << "fewer than 8 free huge pages of 2 MiB; set vm.nr_hugepages";
    return enough;
}

BOOST_AUTO_TEST_CASE(huge_pages_are_mapped_and_unmapped_whole,
                     *boost::unit_test::precondition(has_free_huge_pages)) {
    Scene scene({.page_bytes = 2 * kMiB});
    const uint64_t offset = kMiB, length = 8 * kMiB;
    auto process = scene.client([&](Engine& engine) {
        char* part = engine.map(scene.path, PROT_READ, MAP_PRIVATE, length, offset);
        engine.check(engine.on_arena(part), "the mapping stands on the arena");
        engine.check(engine.munmap(part, kMiB / 2) == 0, "a part of a huge page");
        engine.check(engine.on_arena(part), "is kept while the rest of it is used");
        engine.check(engine.munmap(part + kMiB / 2, kMiB) == 0, "the rest of it, and a part of the next");
        engine.check(engine.behind(part).empty() && engine.on_arena(part + kMiB),
                     "only the dead huge page goes");
        engine.check(count_wrong(kSeed, offset + 2 * kMiB, part + 2 * kMiB, 2 * kMiB) == 0, "the bytes");
        engine.step();
        engine.check(count_wrong(kSeed, offset + 2 * kMiB, part + 2 * kMiB, length - 2 * kMiB) == 0,
                     "the bytes after it");
        engine.check(engine.on_file(part + 2 * kMiB), "the mapping is the kernel's");
        engine.check(engine.behind(part + kMiB).empty(), "what was unmapped stays unmapped");
        engine.check(engine.munmap(part, length) == 0 && engine.behind(part + 4 * kMiB).empty(), "munmap");
    });
    process.reached();
    scene.tierd->die();
    process.go_on();
    process.ends_well();
}
