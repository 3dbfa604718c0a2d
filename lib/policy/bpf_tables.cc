#include "lib/policy/bpf_tables.h"

#include <bpf/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "lib/base/bytes.h"

namespace tierd {
namespace {

// The kernel lays entries out in steps of 8 bytes, and all rows of the ABI are multiples of that.
size_t array_bytes(uint32_t entry_bytes, uint32_t entries) {
    return round_up(size_t{entry_bytes} * entries, static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
}

std::unexpected<Error> refused(std::string what, std::string object) {
    int err = errno;
    Error error{Code::kernel_refused, err, std::move(what), std::move(object), {}};
    if (err == EPERM || err == EACCES) {
        error.code = Code::denied;
        error.hint = "run as root, or with CAP_BPF and CAP_PERFMON";
    } else if (err == ENOSYS || err == EINVAL) {
        error.code = Code::unsupported;
        error.hint = "a kernel of version 6.4 or newer with BPF is needed";
    } else if (err == ENOMEM) {
        error.code = Code::no_space;
    }
    return std::unexpected(std::move(error));
}

}  // namespace

Result<SharedArray> SharedArray::make(const std::string& name, uint32_t entry_bytes, uint32_t entries) {
    bpf_map_create_opts options{};
    options.sz = sizeof options;
    options.map_flags = BPF_F_MMAPABLE;
    SharedArray array;
    array.fd = Fd(
        ::bpf_map_create(BPF_MAP_TYPE_ARRAY, name.c_str(), sizeof(uint32_t), entry_bytes, entries, &options));
    if (!array.fd) return refused("make the BPF array", name);
    size_t bytes = array_bytes(entry_bytes, entries);
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, array.fd.get(), 0);
    if (memory == MAP_FAILED) return refused("map the BPF array", name);
    array.memory = Mapping(memory, bytes);
    return array;
}

Result<void> SharedArray::map_over(const Fd& array, void* address, uint32_t entry_bytes, uint32_t entries) {
    void* memory = ::mmap(address, array_bytes(entry_bytes, entries), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED, array.get(), 0);
    if (memory == MAP_FAILED) return refused("map the BPF array", "over the extent table");
    return {};
}

void put_name(std::string_view name, std::span<char> field) {
    std::ranges::fill(field, '\0');
    name.copy(field.data(), field.size() - 1);
}

Result<void> bpf_usable() {
    auto array = SharedArray::make("tierd_probe", 8, 1);
    if (!array) return std::unexpected(array.error());
    return {};
}

Result<std::shared_ptr<BpfTables>> BpfTables::make(uint32_t capacity) {
    auto tables = std::make_shared<BpfTables>();
    auto extents = SharedArray::make("tierd_extents", sizeof(tierd_extent), capacity);
    if (!extents) return std::unexpected(extents.error());
    auto models = SharedArray::make("tierd_models", sizeof(tierd_model), TIERD_MAX_MODELS);
    if (!models) return std::unexpected(models.error());
    auto tiers = SharedArray::make("tierd_tiers", sizeof(tierd_tier_info), TIERD_MAX_TIERS);
    if (!tiers) return std::unexpected(tiers.error());
    auto gpus = SharedArray::make("tierd_gpus", sizeof(tierd_gpu), TIERD_MAX_GPUS);
    if (!gpus) return std::unexpected(gpus.error());
    auto leases = SharedArray::make("tierd_leases", sizeof(tierd_lease), TIERD_MAX_LEASES);
    if (!leases) return std::unexpected(leases.error());
    tables->capacity_ = capacity;
    tables->extents_ = std::move(*extents);
    tables->models_ = std::move(*models);
    tables->tiers_ = std::move(*tiers);
    tables->gpus_ = std::move(*gpus);
    tables->leases_ = std::move(*leases);
    return tables;
}

}  // namespace tierd
