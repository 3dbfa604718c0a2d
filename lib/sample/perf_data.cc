#include "lib/sample/perf_data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <map>
#include <vector>

#include "lib/base/fd.h"
#include "lib/sample/perf_sample.h"

namespace tierd {

namespace {

constexpr uint64_t kMagic = 0x32454c4946524550;         // "PERFILE2"
constexpr uint64_t kMagicSwapped = 0x50455246494c4532;  // written on a machine of the other byte order
constexpr uint32_t kAuxTrace = 71;                      // a user record that data follows
constexpr uint32_t kCompressed = 81, kCompressed2 = 83;
constexpr uint16_t kBuildId = 1u << 14;  // PERF_RECORD_MISC_MMAP_BUILD_ID, Linux 5.12
constexpr uint64_t kSmallestAttr = 64;   // PERF_ATTR_SIZE_VER0
constexpr size_t kMostAttrs = 4096;

struct FileSection {
    uint64_t offset = 0;
    uint64_t size = 0;
};
struct FileHeader {
    uint64_t magic = 0;
    uint64_t size = 0;
    uint64_t attr_size = 0;
    FileSection attrs, data, event_types;
    uint64_t features[4] = {};
};
static_assert(sizeof(FileHeader) == 104);

// One event of the recording.
struct Event {
    SampleFormat format;
    bool ids_behind = false;  // other records end with the fields of a sample's head
};

std::unexpected<Error> damaged(const char* what, uint64_t offset) {
    return fail(Code::bad_input, "read perf.data", {},
                fmt::format("{} at byte {} can't be right", what, offset));
}

class PerfDataReader {
  public:
    PerfDataReader(std::span<const std::byte> file, const PerfDataVisitor& visitor)
        : file_(file), visitor_(visitor) {}

    Result<PerfDataCounters> read() {
        FileHeader header;
        if (!copy(0, header)) return damaged("the header", 0);
        if (auto checked = check(header); !checked) return std::unexpected(checked.error());
        if (auto read = read_events(header); !read) return std::unexpected(read.error());
        if (auto read = read_records(header.data); !read) return std::unexpected(read.error());
        return counters_;
    }

  private:
    template <class T>
    bool copy(uint64_t offset, T& into) const {
        if (offset > file_.size() || file_.size() - offset < sizeof into) return false;
        std::memcpy(&into, file_.data() + offset, sizeof into);
        return true;
    }
    bool inside(const FileSection& section) const {
        return section.offset <= file_.size() && section.size <= file_.size() - section.offset;
    }

    Result<void> check(const FileHeader& header) const {
        if (header.magic == kMagicSwapped)
            return fail(Code::unsupported, "read perf.data", {},
                        "it was recorded on a machine of the other byte order");
        if (header.magic != kMagic) return damaged("the magic", 0);
        if (header.size == 16)
            return fail(Code::unsupported, "read perf.data", {},
                        "it was written to a pipe: record with `perf record -o FILE`");
        if (header.size < sizeof header) return damaged("the header's size", 8);
        if (header.data.size == 0)
            return fail(Code::bad_input, "read perf.data", {},
                        "perf record was killed before it wrote the file's header");
        if (!inside(header.attrs) || !inside(header.data)) return damaged("a section", 24);
        uint64_t least = kSmallestAttr + sizeof(FileSection);
        if (header.attr_size < least || header.attr_size > 4096) return damaged("an event's size", 16);
        if (header.attrs.size / header.attr_size > kMostAttrs) return damaged("the number of events", 32);
        return {};
    }

    // Every event with its numbers. Where there is only one, samples need not carry any.
    Result<void> read_events(const FileHeader& header) {
        for (uint64_t at = 0; at + header.attr_size <= header.attrs.size; at += header.attr_size) {
            uint64_t offset = header.attrs.offset + at;
            perf_event_attr attr{};
            uint64_t stored = header.attr_size - sizeof(FileSection);
            std::memcpy(&attr, file_.data() + offset, std::min<uint64_t>(stored, sizeof attr));
            FileSection ids;
            if (!copy(offset + stored, ids) || !inside(ids)) return damaged("an event's numbers", offset);
            size_t index = events_.size();
            events_.push_back(event_of(attr));
            for (uint64_t i = 0; i + 8 <= ids.size; i += 8) {
                uint64_t id = 0;
                copy(ids.offset + i, id);
                by_id_[id] = index;
            }
        }
        if (events_.empty()) return damaged("the list of events", header.attrs.offset);
        return {};
    }

    static Event event_of(const perf_event_attr& attr) {
        Event event;
        event.format = {
            .fields = attr.sample_type,
            .read_format = attr.read_format,
            .user_registers = attr.sample_regs_user,
            .interrupt_registers = attr.sample_regs_intr,
            .branch_hardware_index = (attr.branch_sample_type & PERF_SAMPLE_BRANCH_HW_INDEX) != 0};
        event.ids_behind = attr.sample_id_all;
        return event;
    }

    Result<void> read_records(const FileSection& section) {
        uint64_t at = section.offset;
        const uint64_t end = section.offset + section.size;
        while (at < end) {
            perf_event_header header{};
            if (end - at < sizeof header) return damaged("a record", at);
            copy(at, header);
            if (header.size < sizeof header || header.size > end - at) return damaged("a record's size", at);
            if (header.type == kCompressed || header.type == kCompressed2)
                return fail(Code::unsupported, "read perf.data", {}, "it is compressed: record without -z");
            counters_.records++;
            auto body = file_.subspan(at + sizeof header, header.size - sizeof header);
            on_record(header, body);
            at += header.size;
            uint64_t behind = 0;
            if (header.type == kAuxTrace && body.size() >= 8)
                std::memcpy(&behind, body.data(), sizeof behind);
            if (behind > end - at) return damaged("a trace's size", at);
            at += behind;
        }
        return {};
    }

    void on_record(const perf_event_header& header, std::span<const std::byte> body) {
        const uint32_t type = header.type;
        if (type == PERF_RECORD_SAMPLE) on_sample(body);
        if (type == PERF_RECORD_MMAP || type == PERF_RECORD_MMAP2)
            on_mmap(body, type == PERF_RECORD_MMAP2, (header.misc & kBuildId) == 0);
        if (type == PERF_RECORD_FORK || type == PERF_RECORD_EXIT) on_task(body, type == PERF_RECORD_FORK);
        if (type == PERF_RECORD_LOST && body.size() >= 16) counters_.lost += at<uint64_t>(body, 8);
        if (type == PERF_RECORD_LOST_SAMPLES && body.size() >= 8) counters_.lost += at<uint64_t>(body, 0);
    }

    template <class T>
    static T at(std::span<const std::byte> body, size_t offset) {
        T value{};
        std::memcpy(&value, body.data() + offset, sizeof value);
        return value;
    }

    // The event that a sample belongs to; null when its number is not known.
    const Event* event_of_sample(std::span<const std::byte> body) const {
        if (events_.size() == 1) return &events_.front();
        const uint64_t fields = events_.front().format.fields;
        size_t offset = 0;
        if ((fields & PERF_SAMPLE_IDENTIFIER) == 0) {
            if ((fields & PERF_SAMPLE_ID) == 0) return &events_.front();
            for (uint64_t field : {PERF_SAMPLE_IP, PERF_SAMPLE_TID, PERF_SAMPLE_TIME, PERF_SAMPLE_ADDR})
                offset += (fields & field) != 0 ? 8 : 0;
        }
        if (body.size() < offset + 8) return nullptr;
        auto found = by_id_.find(at<uint64_t>(body, offset));
        return found == by_id_.end() ? nullptr : &events_[found->second];
    }

    void on_sample(std::span<const std::byte> body) {
        counters_.samples++;
        const Event* event = event_of_sample(body);
        AccessRecord record;
        if (event == nullptr || !parse_sample(body, event->format, record)) {
            counters_.unreadable++;
            return;
        }
        if ((event->format.fields & PERF_SAMPLE_ADDR) == 0)
            counters_.without_address++;
        else if (visitor_.sample)
            visitor_.sample(record);
    }

    // From the fields behind a record that is no sample: from the back they are identifier, cpu, stream, id,
    // time, thread.
    uint64_t time_behind(std::span<const std::byte> body) const {
        const Event& event = events_.front();
        const uint64_t fields = event.format.fields;
        if (!event.ids_behind || (fields & PERF_SAMPLE_TIME) == 0) return 0;
        size_t from_end = 8;
        for (uint64_t field :
             {PERF_SAMPLE_IDENTIFIER, PERF_SAMPLE_CPU, PERF_SAMPLE_STREAM_ID, PERF_SAMPLE_ID})
            from_end += (fields & field) != 0 ? 8 : 0;
        return body.size() < from_end ? 0 : at<uint64_t>(body, body.size() - from_end);
    }

    void on_mmap(std::span<const std::byte> body, bool second, bool has_inode) {
        const size_t name_at = second ? 64 : 32;
        if (body.size() <= name_at || !visitor_.mmap) return;
        const char* name = reinterpret_cast<const char*>(body.data()) + name_at;
        PerfMmap mapping;
        mapping.pid = at<uint32_t>(body, 0);
        mapping.address = at<uint64_t>(body, 8);
        mapping.length_bytes = at<uint64_t>(body, 16);
        mapping.offset_bytes = at<uint64_t>(body, 24);
        mapping.path.assign(name, ::strnlen(name, body.size() - name_at));
        mapping.time_ns = time_behind(body);
        if (second && has_inode)
            mapping.inode = fmt::format("{}:{}:{}", at<uint32_t>(body, 32), at<uint32_t>(body, 36),
                                        at<uint64_t>(body, 40));
        visitor_.mmap(mapping);
    }

    void on_task(std::span<const std::byte> body, bool forked) {
        if (body.size() < 24) return;
        auto pid = at<uint32_t>(body, 0), parent = at<uint32_t>(body, 4);
        auto tid = at<uint32_t>(body, 8);
        auto time_ns = at<uint64_t>(body, 16);
        if (forked && pid != parent && visitor_.fork) visitor_.fork(parent, pid, time_ns);
        if (!forked && pid == tid && visitor_.exit) visitor_.exit(pid, time_ns);
    }

    std::span<const std::byte> file_;
    const PerfDataVisitor& visitor_;
    PerfDataCounters counters_;
    std::vector<Event> events_;
    std::map<uint64_t, size_t> by_id_;
};

}  // namespace

Result<PerfDataCounters> read_perf_data(std::span<const std::byte> file, const PerfDataVisitor& visitor) {
    return PerfDataReader(file, visitor).read();
}

Result<PerfDataCounters> read_perf_data(const std::string& path, const PerfDataVisitor& visitor) {
    auto fd = open_file(path, O_RDONLY);
    if (!fd) return std::unexpected(fd.error());
    struct stat st{};
    if (::fstat(fd->get(), &st) != 0) return os_error("look at", path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return fail(Code::bad_input, "read perf.data", path, "it is empty, or no file");
    auto length = static_cast<size_t>(st.st_size);
    void* bytes = ::mmap(nullptr, length, PROT_READ, MAP_PRIVATE, fd->get(), 0);
    if (bytes == MAP_FAILED) return os_error("map", path);
    Mapping mapping(bytes, length);
    auto read =
        read_perf_data(std::span(reinterpret_cast<const std::byte*>(mapping.data()), length), visitor);
    if (!read) {
        Error error = read.error();
        error.object = path;
        return std::unexpected(std::move(error));
    }
    return read;
}

}  // namespace tierd
