// tensor_map.h - the tensors of a weight file, from its header: where each one is, and its role in the model.
//
// Owns:      the list of tensors of one weight file. Not the file, not its bytes.
// Invariant: every tensor's byte range lies inside the file; ranges do not overlap (the experts of a stacked tensor
//            replace it); ascending by begin_bytes.
// Callers:   any thread; a finished map never changes.
// Fails:     a damaged header gives Code::bad_input with the reason, within bounded memory and time (the limits below).
//            The file can then still be served as plain extents.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bpf/tierd_policy.h"
#include "lib/base/result.h"

namespace tierd {

enum class WeightFormat : uint8_t { plain, safetensors, gguf };

// "plain", "safetensors" or "gguf".
const char* format_name(WeightFormat format) noexcept;
// "embedding", "attention", ... for enum tierd_role; "other" for anything unknown.
const char* role_name(uint8_t role) noexcept;

struct Tensor {
    std::string name;             // a part of a stacked tensor is named "blk.0.ffn_up_exps.weight[17]"
    std::string dtype;            // as the format spells it: "F16", "Q8_0", "BF16"
    std::vector<uint64_t> shape;  // outermost first; a part of a stacked tensor lacks the expert dimension
    uint64_t begin_bytes = 0;     // offset in the file
    uint64_t end_bytes = 0;       // one past the last byte
    uint16_t layer = TIERD_NO_LAYER;
    uint16_t expert = TIERD_NO_EXPERT;
    uint8_t role = TIERD_ROLE_OTHER;  // enum tierd_role
};

struct TensorMap {
    WeightFormat format = WeightFormat::plain;
    std::string architecture;       // GGUF general.architecture; empty where the format has none
    std::vector<Tensor> tensors;    // ascending by begin_bytes; empty for plain files
    uint64_t data_begin_bytes = 0;  // where the header ends
    uint16_t layers = 0;            // highest layer seen + 1
    uint16_t experts = 0;           // highest expert seen + 1
    uint16_t split_index = 0;       // which part of a split model this file is, from 0 (GGUF split.no)
    uint16_t split_count = 1;       // how many parts the model has (GGUF split.count)
};

// Limits that keep a hostile header cheap; generous for real models.
inline constexpr uint64_t kMaxHeaderBytes = 128ull << 20;
inline constexpr uint32_t kMaxTensors = 1u << 20;           // counted after stacked tensors are split
inline constexpr uint64_t kMaxTensorNameBytes = 512;        // of one tensor, before its part's number
inline constexpr uint64_t kMaxAllNamesBytes = 64ull << 20;  // of all parts of stacked tensors together

// Reads the header of a weight file. `fd` must be readable and is read with pread(2) only (its offset is left
// alone); may block on the file's storage. `file_bytes` is its size. A file that is neither safetensors nor
// GGUF gives an empty map of format plain; a safetensors file is known by the '{' behind its length. Reads at
// most 256 KiB and one and a half times the header's bytes. Errors: bad_input for a damaged header, io when
// it could not be read.
Result<TensorMap> read_tensor_map(int fd, uint64_t file_bytes);

// The same from bytes in memory, for fuzzing and tests: `header` (borrowed) is the file's beginning (all of
// it, or at least the header), `file_bytes` the size that the whole file would have. Errors: bad_input.
Result<TensorMap> parse_tensor_map(const char* header, size_t header_bytes, uint64_t file_bytes);

// Fills role, layer and expert of a tensor from its name, by the naming habits of GGUF and of Hugging Face
// checkpoints ("blk.3.attn_q.weight", "model.layers.3.mlp.experts.17.up_proj.weight"). State-space and
// recurrent mixers count as attention, whose place in a layer they take. Vision and audio towers get roles
// but no layers: their numbers would be mistaken for those of the language model. Never fails: a name without
// a known word is TIERD_ROLE_OTHER.
void classify_tensor(Tensor& tensor);

// The name of the model that a weight file belongs to: the path's last component, without the part numbers of
// a split file ("big-00002-of-00007.gguf" and its six brothers are all "big.gguf"). Empty for an empty path.
std::string model_name(const std::string& path);

}  // namespace tierd
