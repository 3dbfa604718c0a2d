// gguf.h - reads the header of a GGUF file (versions 2 and 3, little endian).
//
// Owns:      nothing; only gguf.cc knows the format's layout.
// Invariant: the header's size bounds time and memory: no count from the file is used before its bytes are known to
//            fit.
// Callers:   tensor_map.cc; any thread. May block if `header` reads from a file.
// Fails:     bad_input with the place and the reason; io from `header`.
#pragma once

#include "lib/model/header_bytes.h"
#include "lib/model/tensor_map.h"

namespace tierd {

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF", the file's first four bytes

// Reads metadata and tensor infos. The tensors come as the file lists them: ends computed from their types,
// not yet checked against each other or the file, neither classified nor split. `file_bytes` is the whole
// file's size.
Result<TensorMap> parse_gguf(HeaderBytes& header, uint64_t file_bytes);

}  // namespace tierd
