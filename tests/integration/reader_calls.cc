// reader_calls.cc - the calls on mappings that engines make, each as one command. See reader.h.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "tests/integration/pattern.h"
#include "tests/integration/reader.h"

namespace tierd::itest {
namespace {

Json result_of(bool worked) {
    return {{"result", worked ? 0 : errno}};
}

Fd open_or_throw(const std::string& path, int flags) {
    Fd fd(open(path.c_str(), flags | O_CLOEXEC, 0600));
    if (!fd) throw std::system_error(errno, std::generic_category(), path);
    return fd;
}

// The part of the mapping that a command names with from= and length=.
struct Part {
    char* address;
    uint64_t length_bytes;
};
Part part_of(const MappedFile& map, const Command& command) {
    const uint64_t from = command.number("from", 0);
    return {map.address + from, command.number("length", map.length_bytes - from)};
}

// Notes a mapping in the table and answers with its number.
Json remember(Reader& reader, void* address, uint64_t length, uint64_t offset, const Fd& file) {
    if (address == MAP_FAILED) return {{"result", errno}};
    struct stat st = {};
    fstat(file.get(), &st);
    MappedFile map;
    map.address = static_cast<char*>(address);
    map.length_bytes = length;
    map.offset_bytes = offset;
    map.file_bytes = uint64_t(st.st_size);
    map.device = st.st_dev;
    map.inode = st.st_ino;
    reader.maps.push_back(std::move(map));
    return {{"result", 0}, {"map", reader.maps.size() - 1}, {"address", reinterpret_cast<uint64_t>(address)}};
}

int flags_of(const Command& command) {
    int flags = command.text("flags", "private") == "shared" ? MAP_SHARED : MAP_PRIVATE;
    if (command.has("populate")) flags |= MAP_POPULATE;
    return flags;
}

uint64_t whole_pages(uint64_t bytes) {
    return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

}  // namespace

// path= [offset=] [length=] [prot=r|rw] [flags=private|shared] [populate] [over=MAP at=OFFSET: MAP_FIXED into
// another mapping]
Json map_file(Reader& reader, const Command& command) {
    const Fd file = open_or_throw(command.text("path"), O_RDONLY);
    struct stat st = {};
    fstat(file.get(), &st);
    const uint64_t offset = command.number("offset", 0);
    const uint64_t length = whole_pages(command.number("length", uint64_t(st.st_size) - offset));
    int flags = flags_of(command);
    void* where = nullptr;
    if (command.has("over")) {
        where = reader.maps.at(command.number("over")).address + command.number("at");
        flags |= MAP_FIXED;
    }
    const int prot = command.text("prot", "r") == "rw" ? PROT_READ | PROT_WRITE : PROT_READ;
    const uint64_t begin_ns = monotonic_ns();
    void* address = mmap(where, length, prot, flags, file.get(), off_t(offset));
    const uint64_t took_ns = monotonic_ns() - begin_ns;
    Json answer = remember(reader, address, length, offset, file);
    answer["stall_ms"] = double(took_ns) / 1e6;
    return answer;
}

// plugin=PATH path=: a library that dlopen() brings in makes the mapping, by the name mmap64.
Json map_by_plugin(Reader& reader, const Command& command) {
    void* library = dlopen(command.text("plugin").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw std::runtime_error(dlerror());
    using MapWhole = void* (*)(int fd, size_t length);
    const auto map_whole = reinterpret_cast<MapWhole>(dlsym(library, "plugin_map_whole"));
    if (!map_whole) throw std::runtime_error(dlerror());
    const Fd file = open_or_throw(command.text("path"), O_RDONLY);
    struct stat st = {};
    fstat(file.get(), &st);
    const uint64_t length = whole_pages(uint64_t(st.st_size));
    return remember(reader, map_whole(file.get(), length), length, 0, file);
}

Json unmap(Reader& reader, const Command& command) {
    const Part part = part_of(reader.map_of(command), command);
    return result_of(munmap(part.address, part.length_bytes) == 0);
}

// from= length= to_length= [fixed=1: to an address of this command's choice]; answers with a new map number.
Json remap(Reader& reader, const Command& command) {
    const MappedFile map = reader.map_of(command);
    const Part part = part_of(map, command);
    const uint64_t length = command.number("to_length", part.length_bytes);
    void* address;
    if (command.has("fixed")) {
        void* room = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        address = mremap(part.address, part.length_bytes, length, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    } else {
        address = mremap(part.address, part.length_bytes, length, MREMAP_MAYMOVE);
    }
    if (address == MAP_FAILED) return {{"result", errno}};
    MappedFile moved = map;
    moved.offset_bytes += uint64_t(part.address - map.address);
    moved.address = static_cast<char*>(address);
    moved.length_bytes = length;
    reader.maps.push_back(std::move(moved));
    return {{"result", 0}, {"map", reader.maps.size() - 1}};
}

Json protect(Reader& reader, const Command& command) {
    const Part part = part_of(reader.map_of(command), command);
    const std::string prot = command.text("prot");
    const int bits = prot == "none" ? PROT_NONE : prot == "rw" ? PROT_READ | PROT_WRITE : PROT_READ;
    return result_of(mprotect(part.address, part.length_bytes, bits) == 0);
}

Json advise(Reader& reader, const Command& command) {
    static const std::map<std::string, int> kAdvice = {
        {"normal", MADV_NORMAL},     {"random", MADV_RANDOM},         {"sequential", MADV_SEQUENTIAL},
        {"willneed", MADV_WILLNEED}, {"dontneed", MADV_DONTNEED},     {"hugepage", MADV_HUGEPAGE},
        {"cold", MADV_COLD},         {"pageout", MADV_PAGEOUT},       {"dontfork", MADV_DONTFORK},
        {"dofork", MADV_DOFORK},     {"populate", MADV_POPULATE_READ}};
    const Part part = part_of(reader.map_of(command), command);
    return result_of(madvise(part.address, part.length_bytes, kAdvice.at(command.text("advice"))) == 0);
}

Json lock(Reader& reader, const Command& command) {
    const Part part = part_of(reader.map_of(command), command);
    if (command.has("undo")) return result_of(munlock(part.address, part.length_bytes) == 0);
    return result_of(mlock(part.address, part.length_bytes) == 0);
}

Json sync(Reader& reader, const Command& command) {
    const Part part = part_of(reader.map_of(command), command);
    return result_of(msync(part.address, part.length_bytes, MS_SYNC) == 0);
}

// MAP_FIXED of anonymous memory into the middle; `wrong` counts bytes of it that are not zero.
Json map_zeros_over(Reader& reader, const Command& command) {
    const Part part = part_of(reader.map_of(command), command);
    void* address = mmap(part.address, part.length_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (address == MAP_FAILED) return {{"result", errno}};
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < part.length_bytes; ++i) wrong += part.address[i] != 0;
    return {{"result", 0}, {"wrong", wrong}};
}

// write(2) from the mapping to the file to=, one call: the kernel itself faults on the pages.
Json write_out(Reader& reader, const Command& command) {
    const Part part = part_of(reader.map_of(command), command);
    const Fd to = open_or_throw(command.text("to"), O_WRONLY | O_CREAT | O_TRUNC);
    const ssize_t written = write(to.get(), part.address, part.length_bytes);
    return {{"result", written < 0 ? errno : 0}, {"written", written}};
}

// pread(2) from another file, path=, into a private writable mapping: the kernel itself writes into the
// pages.
Json read_in(Reader& reader, const Command& command) {
    const Part part = part_of(reader.map_of(command), command);
    const Fd from = open_or_throw(command.text("path"), O_RDONLY);
    const ssize_t got =
        pread(from.get(), part.address, part.length_bytes, off_t(command.number("file_from", 0)));
    return {{"result", got < 0 ? errno : 0}, {"read", got}};
}

Json backing(Reader& reader, const Command& command) {
    const MappedFile& map = reader.map_of(command);
    const Part part = part_of(map, command);
    const auto begin = reinterpret_cast<uint64_t>(part.address);
    const uint64_t end = begin + part.length_bytes;
    Json runs = Json::array();
    auto add = [&](uint64_t from, uint64_t to, const char* what) {
        if (!runs.empty() && runs.back()["what"] == what)
            runs.back()["length"] = runs.back()["length"].get<uint64_t>() + (to - from);
        else
            runs.push_back({{"from", from - begin}, {"length", to - from}, {"what", what}});
    };
    uint64_t at = begin;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; at < end && std::getline(maps, line);) {
        uint64_t low, high, inode;
        unsigned major, minor;
        if (std::sscanf(line.c_str(), "%lx-%lx %*s %*x %x:%x %lu", &low, &high, &major, &minor, &inode) != 5)
            throw std::runtime_error("unreadable line of /proc/self/maps: " + line);
        if (high <= at || low >= end) continue;
        if (low > at) add(at, low, "nothing");
        const bool ours = inode == map.inode && makedev(major, minor) == map.device;
        add(std::max(at, low), std::min(high, end), ours ? "file" : inode == 0 ? "anonymous" : "arena");
        at = high;
    }
    if (at < end) add(at, end, "nothing");
    return {{"runs", runs}};
}

}  // namespace tierd::itest
