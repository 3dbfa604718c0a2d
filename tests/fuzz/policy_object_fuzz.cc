// policy_object_fuzz.cc - fuzz target: any bytes as a policy's object, and as a verifier's log. Aborts where something is
// accepted that is no policy, or refused without a word. What is accepted goes on to libbpf, as it does in tierd: that must
// survive it.
//
// Owns:      nothing.
// Callers:   libFuzzer's main or replay_main.cc, one thread.
#include <bpf/libbpf.h>

#include <cstdlib>
#include <string>

#include "lib/policy/bpf_elf.h"
#include "lib/policy/verifier_log.h"

using namespace tierd;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string bytes(reinterpret_cast<const char*>(data), size);  // aligned as a file's bytes are
    auto summary = inspect_object(bytes, "input");
    if (summary && (summary->hooks.empty() || summary->licence.empty())) std::abort();
    if (summary) {
        libbpf_set_print(nullptr);
        bpf_object__close(bpf_object__open_mem(bytes.data(), bytes.size(), nullptr));
    }
    if (!summary && summary.error().text().empty()) std::abort();
    (void)read_complaint(bytes);
    return 0;
}
