// safetensors.h - reads the header of a safetensors file: an 8-byte length and a JSON object.
//
// Owns:      nothing; only safetensors.cc knows the format's layout.
// Invariant: no document tree is ever built; nesting, strings and values are counted and limited while they are parsed.
// Callers:   tensor_map.cc; any thread. May block if `header` reads from a file.
// Fails:     bad_input with the tensor and the reason; io from `header`.
#pragma once

#include "lib/model/header_bytes.h"
#include "lib/model/tensor_map.h"

namespace tierd {

// Reads the tensors as the file lists them: lengths agree with dtype and shape and lie in the file, but they
// are not yet sorted, checked against each other, classified or split. `file_bytes` is the whole file's size.
Result<TensorMap> parse_safetensors(HeaderBytes& header, uint64_t file_bytes);

}  // namespace tierd
