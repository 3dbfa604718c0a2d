#include "lib/engine/files.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd {

FileRegistry::FileRegistry(Placement& placement, KernelBackend& backend, FileWatch watch,
                           Worker& state_thread, std::shared_ptr<StateDb> state)
    : placement_(placement),
      backend_(backend),
      watch_(std::move(watch)),
      state_thread_(state_thread),
      state_(std::move(state)) {}

std::shared_ptr<WeightFile> FileRegistry::find(const FileIdentity& identity) const {
    for (auto& [number, file] : files_)
        if (!file->changed && file->origin.identity == identity) return file;
    return nullptr;
}

std::shared_ptr<WeightFile> FileRegistry::find(uint64_t number) const {
    auto found = files_.find(number);
    return found == files_.end() ? nullptr : found->second;
}

Result<std::shared_ptr<WeightFile>> FileRegistry::open(std::shared_ptr<WeightFile> file) {
    if (auto twin = find(file->origin.identity)) return twin;
    if (auto taken = placement_.take_rows(*file); !taken) return std::unexpected(taken.error());
    if (auto added = backend_.add_file(*file); !added) {
        placement_.give_back_rows(*file);
        return std::unexpected(added.error());
    }
    // Whoever opened it has read its header, and is about to read more.
    placement_.filler().note_read(monotonic_ns());
    file->number = next_number_++;
    // On a slow file system even the watch may wait; fills notice a change there.
    if (!file->slow_origin) file->watch = watch_.add(file->origin.fd.get());
    files_[file->number] = file;
    placement_.open(*file, file->labels);
    file->labels = {};
    spdlog::info("serving {:?}: {} in {} extents, {}, {} tensors", file->path,
                 format_bytes(file->size_bytes()), file->extent_count, backing_name(file->backing),
                 file->map.tensors.size());
    if (!file->header_error.empty())
        spdlog::warn("{:?} is served without a tensor map: {}", file->path, file->header_error);
    return file;
}

void FileRegistry::close_if_idle(PlacedFile* placed) {
    if (placed == nullptr || !placed->is_idle()) return;
    auto found = files_.find(served(*placed).number);
    if (found == files_.end()) return;
    std::shared_ptr<WeightFile> file = std::move(found->second);
    files_.erase(found);
    placement_.close(*file);
    stop_watching(*file);
    backend_.remove_file(*file);
}

// Many checkpoints call their file model.safetensors: a name of several models is refused rather than acted on for all. A
// file that changed while it was served is known until its sessions have left it; names and paths mean the one that is served
// now.
Result<std::vector<std::shared_ptr<WeightFile>>> FileRegistry::named(const std::string& model) const {
    uint64_t number = 0;
    auto [end, error] = std::from_chars(model.data(), model.data() + model.size(), number);
    bool is_number = error == std::errc() && end == model.data() + model.size();
    std::map<std::string, std::shared_ptr<WeightFile>> found;  // by path; of one path the latest
    std::set<std::string> directories;
    for (auto& [key, file] : files_) {
        if (is_number && key == number) return std::vector{file};
        if (file->changed || (file->path != model && file->name != model)) continue;
        found[file->path] = file;
        directories.insert(file->path.substr(0, file->path.rfind('/') + 1));
    }
    if (auto exact = found.find(model); exact != found.end()) return std::vector{exact->second};
    if (found.empty())
        return fail(Code::not_found, "find model", model,
                    "see the names that `tierctl models` lists, or give a path");
    if (directories.size() > 1)
        return fail(Code::bad_input, "find model", model,
                    "several models have that name: give the path or the number of one");
    std::vector<std::shared_ptr<WeightFile>> files;
    for (auto& [path, file] : found) files.push_back(file);
    return files;
}

std::vector<std::shared_ptr<WeightFile>> FileRegistry::read_changes() {
    std::vector<std::shared_ptr<WeightFile>> changed;
    for (int watch : watch_.read()) {
        for (auto& [number, file] : files_) {
            bool meant = watch == -1 || file->watch == watch;  // -1: the kernel dropped events
            if (meant && !file->changed && !file->slow_origin && !file->origin.unchanged())
                changed.push_back(file);
        }
    }
    return changed;
}

void FileRegistry::stop_watching(WeightFile& file) {
    if (file.watch >= 0) watch_.remove(std::exchange(file.watch, -1));
}

// What the first run after a cold start touched, in its order, is next time's read-ahead.
void FileRegistry::store_order(WeightFile& file) {
    if (!file.first_touches.active() || file.first_touches.empty() || file.changed || !state_) return;
    state_thread_.post(
        [state = state_, key = identity_key(file.origin.identity),
         order = TouchOrder{file.layout.fingerprint(), file.first_touches.take(), realtime_ns()}] {
            if (auto stored = state->store_order(key, order); !stored)
                spdlog::warn("{}", stored.error().text());
        });
}

}  // namespace tierd
