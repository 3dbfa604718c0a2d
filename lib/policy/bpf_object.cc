#include "lib/policy/bpf_object.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>
#include <string_view>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/policy/knobs.h"
#include "lib/policy/verifier_log.h"

namespace tierd {
namespace {

constexpr uint64_t kMaxOwnMapBytes = 64 * kMiB;
constexpr size_t kLogBytes = 1 * kMiB;  // the kernel keeps a log's end where it has no room for all

// libbpf reports errors before the load as log text only, through one callback for the whole process. The text
// belongs to the load on the same thread.
thread_local std::string* t_words = nullptr;

int keep_words(libbpf_print_level level, const char* format, va_list args) {
    if (level != LIBBPF_WARN || t_words == nullptr) return 0;
    std::array<char, 512> line{};
    int length = std::vsnprintf(line.data(), line.size(), format, args);
    if (t_words->size() < kLogBytes) *t_words += line.data();
    return length;
}

struct Listening {
    explicit Listening(std::string& words) {
        static std::once_flag once;
        std::call_once(once, [] { libbpf_set_print(keep_words); });
        t_words = &words;
    }
    ~Listening() { t_words = nullptr; }
};

enum class Shared : uint8_t { extents, models, tiers, gpus, leases, ctxs, lease_contexts, answers };
struct SharedMap {
    std::string_view name;
    uint32_t value_bytes;
};
using TableFds = std::array<int, 5>;  // the first of them, which tierd alone writes
constexpr std::array<SharedMap, 8> kShared{{{"tierd_extents", sizeof(tierd_extent)},
                                            {"tierd_models", sizeof(tierd_model)},
                                            {"tierd_tiers", sizeof(tierd_tier_info)},
                                            {"tierd_gpus", sizeof(tierd_gpu)},
                                            {"tierd_leases", sizeof(tierd_lease)},
                                            {"tierd_extent_ctxs", sizeof(tierd_extent_ctx)},
                                            {"tierd_lease_ctxs", sizeof(tierd_lease_ctx)},
                                            {"tierd_answers", sizeof(tierd_answer)}}};

std::unexpected<Error> refuse(const std::string& name, std::string what, std::string hint = {}) {
    return fail(Code::bad_input, fmt::format("use the policy {}: {}", name, what), {}, std::move(hint));
}

// What one of the policy's own maps takes; nothing for a kind that a policy may not have.
std::optional<uint64_t> memory_of(const ::bpf_map* map) {
    uint64_t key = bpf_map__key_size(map), value = round_up(bpf_map__value_size(map), 8);
    uint64_t entries = bpf_map__max_entries(map);
    uint64_t cpus = static_cast<uint64_t>(std::max(1, libbpf_num_possible_cpus()));
    constexpr uint64_t kNode = 64;  // a hash table's own, about
    switch (bpf_map__type(map)) {
        case BPF_MAP_TYPE_ARRAY:
            return entries * value;
        case BPF_MAP_TYPE_PERCPU_ARRAY:
            return entries * value * cpus;
        case BPF_MAP_TYPE_HASH:
        case BPF_MAP_TYPE_LRU_HASH:
            return entries * (kNode + key + value);
        case BPF_MAP_TYPE_PERCPU_HASH:
        case BPF_MAP_TYPE_LRU_PERCPU_HASH:
            return entries * (kNode + key + value * cpus);
        default:
            return std::nullopt;
    }
}

// An object that was opened and not yet loaded: checks and sets it up.
class Opened {
  public:
    Opened(::bpf_object* object, const std::string& name) : object_(object), name_(name) {}

    void set_up_programs(std::vector<char>& log) {
        ::bpf_program* program;
        bpf_object__for_each_program(program, object_) {
            bpf_program__set_type(program, BPF_PROG_TYPE_SYSCALL);
            bpf_program__set_flags(program, BPF_F_SLEEPABLE);
            bpf_program__set_log_buf(program, log.data(), log.size());
        }
    }

    Result<void> set_up_maps(uint32_t capacity, const TableFds& tables) {
        for (size_t i = 0; i < kShared.size(); i++) {
            ::bpf_map* map = find(static_cast<Shared>(i));
            if (map == nullptr)
                return refuse(name_, fmt::format("it has no map {}", kShared[i].name), "include tierd.bpf.h");
            if (bpf_map__type(map) != BPF_MAP_TYPE_ARRAY || bpf_map__key_size(map) != sizeof(uint32_t) ||
                bpf_map__value_size(map) != kShared[i].value_bytes)
                return refuse(name_,
                              fmt::format("its map {} is of another kind or size ({} bytes an entry, not {})",
                                          kShared[i].name, bpf_map__value_size(map), kShared[i].value_bytes),
                              "take the maps that tierd.bpf.h defines");
            if (i < tables.size() && bpf_map__reuse_fd(map, tables[i]) != 0)
                return os_error("share the tables with policy", name_);
        }
        bpf_map__set_max_entries(find(Shared::ctxs), capacity);
        bpf_map__set_max_entries(find(Shared::lease_contexts), TIERD_MAX_LEASES);
        bpf_map__set_max_entries(find(Shared::answers), 1);
        for (Shared own : {Shared::ctxs, Shared::lease_contexts, Shared::answers})
            bpf_map__set_map_flags(find(own), BPF_F_MMAPABLE);
        return check_own_maps();
    }

    ::bpf_map* find(Shared which) const {
        return bpf_object__find_map_by_name(object_, kShared[static_cast<size_t>(which)].name.data());
    }
    uint64_t own_map_bytes() const { return own_map_bytes_; }

  private:
    Result<void> check_own_maps() {
        ::bpf_map* map;
        bpf_object__for_each_map(map, object_) {
            std::string_view title = bpf_map__name(map);
            if (std::ranges::find(kShared, title, &SharedMap::name) != kShared.end()) continue;
            if (bpf_map__pin_path(map) != nullptr)
                return refuse(name_, fmt::format("its map {} wants to be pinned", title),
                              "a policy's maps live as long as it does");
            auto bytes = memory_of(map);
            if (!bytes)
                return refuse(name_, fmt::format("its map {} is of a kind that is not for policies", title),
                              "use an array, a hash or an LRU hash");
            own_map_bytes_ += *bytes;
            if (own_map_bytes_ > kMaxOwnMapBytes)
                return refuse(name_, fmt::format("its maps take {} or more", format_bytes(own_map_bytes_)),
                              fmt::format("at most {} in all are allowed", format_bytes(kMaxOwnMapBytes)));
        }
        return {};
    }

    ::bpf_object* object_;
    const std::string& name_;
    uint64_t own_map_bytes_ = 0;
};

// The tables as a policy must see them: the verifier refuses every write.
Result<std::array<Fd, std::tuple_size_v<TableFds>>> make_twins() {
    std::array<Fd, std::tuple_size_v<TableFds>> twins;
    for (size_t i = 0; i < twins.size(); i++) {
        bpf_map_create_opts options{};
        options.sz = sizeof options;
        options.map_flags = BPF_F_RDONLY_PROG;
        twins[i] = Fd(::bpf_map_create(BPF_MAP_TYPE_ARRAY, kShared[i].name.data(), sizeof(uint32_t),
                                       kShared[i].value_bytes, 1, &options));
        if (!twins[i])
            return os_error("make the BPF array", std::string(kShared[i].name),
                            errno == EPERM ? Code::denied : Code::kernel_refused);
    }
    return twins;
}

// Why loading failed with `err`, from the words of the verifier or else of libbpf.
Error explain(const std::string& name, int err, std::string_view verifier, std::string_view words) {
    if (verifier.empty() && err == EPERM)
        return {Code::denied, err, "load the policy", name, "run as root, or with CAP_BPF and CAP_PERFMON"};
    if (!verifier.empty()) {
        Complaint complaint = read_complaint(verifier);
        std::string where = complaint.where.empty() ? "" : complaint.where + ": ";
        return {Code::bad_input,
                0,
                fmt::format("{}the verifier refuses {}: {}", where, name, complaint.message),
                {},
                complaint.advice};
    }
    while (words.ends_with('\n')) words.remove_suffix(1);
    if (words.find("bpf_iter_num") != words.npos)
        return {Code::unsupported, err, "load the policy", name,
                "policies need a kernel of version 6.4 or newer"};
    size_t first_end = words.find('\n');
    return {Code::bad_input,
            err,
            fmt::format("load the policy {}: {}", name, words.substr(0, first_end)),
            {},
            {}};
}

Result<Mapping> map_memory(const ::bpf_map* map) {
    size_t bytes = round_up(size_t{bpf_map__value_size(map)} * bpf_map__max_entries(map),
                            static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
    if (memory == MAP_FAILED) return os_error("map the policy's array", bpf_map__name(map));
    return Mapping(memory, bytes);
}

std::string printable(const char* text, size_t capacity) {
    std::string line(text, ::strnlen(text, capacity));
    for (char& c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    return line;
}

}  // namespace

void BpfObject::Close::operator()(::bpf_object* object) const {
    bpf_object__close(object);
}

BpfObject::~BpfObject() = default;

Result<ObjectFile> read_object(const std::string& path) {
    auto file = open_file(path, O_RDONLY | O_NONBLOCK);
    if (!file) return std::unexpected(file.error());
    struct stat info{};
    if (::fstat(file->get(), &info) != 0) return os_error("look at", path);
    if (!S_ISREG(info.st_mode) || static_cast<uint64_t>(info.st_size) > kMaxObjectBytes)
        return fail(Code::bad_input, "read the policy", path, "it must be a file of at most 4 MiB");
    ObjectFile object;
    object.name = path.substr(path.rfind('/') + 1);
    for (std::string_view ending : {".o", ".bpf"})
        if (object.name.ends_with(ending)) object.name.resize(object.name.size() - ending.size());
    object.bytes.resize(static_cast<size_t>(info.st_size));
    ssize_t got = ::pread(file->get(), object.bytes.data(), object.bytes.size(), 0);
    if (got < 0) return os_error("read the policy", path, Code::io);
    object.bytes.resize(static_cast<size_t>(got));
    return object;
}

namespace {

using ObjectPointer = std::unique_ptr<::bpf_object, void (*)(::bpf_object*)>;

Result<ObjectPointer> open(const ObjectFile& file, const std::string& words) {
    bpf_object_open_opts options{};
    options.sz = sizeof options;
    options.object_name = "policy";
    ObjectPointer object(bpf_object__open_mem(file.bytes.data(), file.bytes.size(), &options),
                         bpf_object__close);
    if (object == nullptr) return std::unexpected(explain(file.name, errno, {}, words));
    return object;
}

// Opens, checks, sets up and loads once, against these tables.
struct Loading {
    const ObjectFile& file;
    std::span<const Knob> knobs;
    std::string* log;
    uint64_t own_map_bytes = 0;

    Result<ObjectPointer> run(uint32_t capacity, const TableFds& tables) {
        std::string words;
        Listening listening(words);
        auto object = open(file, words);
        if (!object) return object;
        std::vector<char> verifier(kLogBytes);
        Opened opened(object->get(), file.name);
        opened.set_up_programs(verifier);
        if (auto set = opened.set_up_maps(capacity, tables); !set) return std::unexpected(set.error());
        if (auto set = set_knobs(object->get(), knobs); !set) return std::unexpected(set.error());
        own_map_bytes = opened.own_map_bytes();
        if (int failed = bpf_object__load(object->get()); failed != 0) {
            if (log != nullptr) *log = verifier.front() != '\0' ? verifier.data() : words;
            return std::unexpected(explain(file.name, -failed, verifier.data(), words));
        }
        return object;
    }
};

}  // namespace

Result<ObjectDescription> describe_object(const ObjectFile& file) {
    auto summary = inspect_object(file.bytes, file.name);
    if (!summary) return std::unexpected(summary.error());
    std::string words;
    Listening listening(words);
    auto object = open(file, words);
    if (!object) return std::unexpected(object.error());
    return ObjectDescription{std::move(*summary), read_knobs(object->get())};
}

Result<std::shared_ptr<BpfObject>> BpfObject::load(const ObjectFile& file, std::span<const Knob> knobs,
                                                   std::shared_ptr<BpfTables> tables, std::string* log) {
    auto summary = inspect_object(file.bytes, file.name);
    if (!summary) return std::unexpected(summary.error());
    auto twins = make_twins();
    if (!twins) return std::unexpected(twins.error());
    Loading loading{file, knobs, log};
    TableFds twin_fds;
    std::ranges::transform(*twins, twin_fds.begin(), [](const Fd& twin) { return twin.get(); });
    auto trial = loading.run(1, twin_fds);
    if (!trial) return std::unexpected(trial.error());
    auto loaded = loading.run(tables->capacity(), tables->fds());
    if (!loaded) return std::unexpected(loaded.error());

    std::shared_ptr<BpfObject> object(new BpfObject);
    object->object_.reset(loaded->release());
    object->name_ = file.name;
    object->summary_ = std::move(*summary);
    object->tables_ = std::move(tables);
    object->own_map_bytes_ = loading.own_map_bytes;
    Opened opened(object->object_.get(), object->name_);
    auto ctxs = map_memory(opened.find(Shared::ctxs));
    if (!ctxs) return std::unexpected(ctxs.error());
    auto lease_contexts = map_memory(opened.find(Shared::lease_contexts));
    if (!lease_contexts) return std::unexpected(lease_contexts.error());
    auto answers = map_memory(opened.find(Shared::answers));
    if (!answers) return std::unexpected(answers.error());
    object->ctxs_ = std::move(*ctxs);
    object->lease_ctxs_ = std::move(*lease_contexts);
    object->answers_ = std::move(*answers);
    object->knobs_ = read_knobs(object->object_.get());
    object->find_programs();
    return object;
}

void BpfObject::find_programs() {
    ::bpf_program* program;
    bpf_object__for_each_program(program, object_.get()) {
        std::string_view section = bpf_program__section_name(program);
        auto row = std::ranges::find(kHookSpecs, section, &HookSpec::section);
        programs_[static_cast<size_t>(row - kHookSpecs.begin())] = bpf_program__fd(program);
        bpf_prog_info info{};
        uint32_t bytes = sizeof info;
        if (::bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &bytes) == 0)
            verified_insns_ = std::max<uint64_t>(verified_insns_, info.verified_insns);
    }
}

CallOutcome BpfObject::run(Hook hook, const tierd_call& call, PolicyAnswer& answer) {
    tierd_answer& raw = raw_answer();
    raw.decisions = raw.dropped = raw.lines = 0;
    tierd_call scratch = call;  // the kernel writes the argument back
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.ctx_in = &scratch;
    options.ctx_size_in = sizeof scratch;
    CallOutcome outcome;
    uint64_t before_ns = thread_cpu_ns();
    outcome.failure = ::bpf_prog_test_run_opts(programs_[static_cast<size_t>(hook)], &options);
    outcome.cpu_ns = thread_cpu_ns() - before_ns;
    outcome.verdict = static_cast<int32_t>(options.retval);
    take_answer(answer);
    return outcome;
}

// Nothing in the answer is believed: the counts are the policy's own words.
void BpfObject::take_answer(PolicyAnswer& answer) const {
    const tierd_answer& raw = raw_answer();
    uint32_t count = std::min<uint32_t>(raw.decisions, TIERD_MAX_DECISIONS);
    answer.decisions.assign(raw.decision, raw.decision + count);
    std::ranges::stable_sort(answer.decisions, std::ranges::greater{}, &tierd_decision::priority);
    answer.dropped = raw.dropped;
    answer.log.clear();
    for (uint32_t i = 0; i < std::min<uint32_t>(raw.lines, TIERD_MAX_LOG); i++)
        answer.log.push_back(printable(raw.log[i], TIERD_LOG_BYTES));
}

}  // namespace tierd
