#include "lib/sample/replay.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "lib/base/fd.h"
#include "lib/sample/code_map.h"

namespace tierd {

namespace {

Result<std::shared_ptr<const SampledFile>> read_file(const std::string& path, uint64_t number,
                                                     uint64_t extent_bytes) {
    auto fd = open_file(path, O_RDONLY | O_NONBLOCK);
    if (!fd) return std::unexpected(fd.error());
    struct stat st{};
    if (::fstat(fd->get(), &st) != 0) return os_error("look at", path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return fail(Code::bad_input, "read header", path, "it is not a file with content");
    auto file = std::make_shared<SampledFile>();
    file->number = number;
    file->name = model_name(path);
    auto bytes = static_cast<uint64_t>(st.st_size);
    // A damaged header leaves the file without tensors; its extents can still be hot.
    if (auto map = read_tensor_map(fd->get(), bytes)) file->map = std::move(*map);
    file->layout = file->map.tensors.empty() ? ExtentLayout::even(bytes, extent_bytes)
                                             : ExtentLayout::by_expert(file->map, bytes, extent_bytes);
    return std::shared_ptr<const SampledFile>(std::move(file));
}

// As the kernel names memory that tierd serves weights from: arena_store.cc makes it.
bool is_arena_path(const std::string& path) {
    return path.starts_with("/memfd:tierd-arena") || path.starts_with("/arena-");
}

class PerfReplay {
  public:
    explicit PerfReplay(const ReplayConfig& config) : config_(config) {}

    Result<Replay> run(const std::string& path) {
        // Mappings first: a recording holds each CPU's records in pieces, so that one may come before what it needs.
        PerfDataVisitor mappings{
            .sample = {},
            .mmap = [&](const PerfMmap& mmap) { on_mmap(mmap); },
            .fork = [&](uint32_t parent, uint32_t child, uint64_t at) { book_.fork(parent, child, at); },
            .exit = [&](uint32_t pid, uint64_t at) { book_.end_process(pid, at + 1); }};
        if (auto read = read_perf_data(path, mappings); !read) return std::unexpected(read.error());
        map_ = book_.publish(UINT64_MAX);
        PerfDataVisitor samples{.sample = [&](const AccessRecord& record) { on_sample(record); },
                                .mmap = {},
                                .fork = {},
                                .exit = {}};
        auto read = read_perf_data(path, samples);
        if (!read) return std::unexpected(read.error());
        result_.counters = *read;
        return std::move(result_);
    }

  private:
    void on_mmap(const PerfMmap& mmap) {
        auto served = config_.served.find(mmap.inode);
        const bool from_tierd = served != config_.served.end();
        if (!from_tierd && !config_.is_weights(mmap.path)) {
            if (is_arena_path(mmap.path)) result_.unknown_arenas++;
            code_.add(mmap.pid, mmap.address, mmap.length_bytes, mmap.offset_bytes, mmap.path);
            // Whatever stands there now is no longer weights.
            book_.remove(mmap.pid, mmap.address, mmap.length_bytes, mmap.time_ns);
            return;
        }
        auto file = from_tierd ? file_of(served->second.path, served->second.extent_bytes)
                               : file_of(mmap.path, config_.extent_bytes);
        if (file == nullptr) return;
        book_.add(mmap.pid, {.address = mmap.address,
                             .length_bytes = mmap.length_bytes,
                             .offset_bytes = mmap.offset_bytes,
                             .since_ns = mmap.time_ns,
                             .file = std::move(file)});
    }

    std::shared_ptr<const SampledFile> file_of(const std::string& path, uint64_t extent_bytes) {
        auto known = files_.find(path);
        if (known != files_.end()) return known->second;
        auto read = read_file(path, result_.files.size(), extent_bytes);
        if (!read) result_.unopened.push_back(path);
        auto file = read ? *read : nullptr;
        files_[path] = file;
        if (file != nullptr)
            result_.files.push_back({file, path, std::vector<ExtentHeat>(file->layout.count())});
        return file;
    }

    void on_sample(const AccessRecord& record) {
        Place place = map_->find(record.pid, record.address, record.time_ns);
        if (place.found != Found::yes) {
            result_.elsewhere++;
            return;
        }
        result_.attributed++;
        auto accesses = static_cast<double>(record.period);
        ExtentHeat& extent = result_.files[place.file->number].extents[place.extent];
        extent.heat += accesses;
        extent.samples++;
        CodePlace code = code_.find(record.pid, record.instruction, record.time_ns);
        result_.readers.add(place.file->name, code, record.pid, record.tid, cpus_.node_of(record.cpu),
                            accesses);
    }

    const ReplayConfig& config_;
    CpuNodes cpus_ = CpuNodes::read();  // of this machine: where it was recorded, as a rule
    MappingHistory book_{true};
    std::shared_ptr<const AddressMap> map_;
    CodeMap code_{false};
    std::map<std::string, std::shared_ptr<const SampledFile>> files_;
    Replay result_;
};

}  // namespace

bool is_weight_path(const std::string& path, const std::vector<std::string>& more) {
    if (path.ends_with(".gguf") || path.ends_with(".safetensors")) return true;
    std::string name = path.substr(path.rfind('/') + 1);
    return std::ranges::any_of(more,
                               [&](const std::string& wanted) { return wanted == path || wanted == name; });
}

Result<Replay> replay_perf_data(const std::string& path, const ReplayConfig& config) {
    return PerfReplay(config).run(path);
}

}  // namespace tierd
