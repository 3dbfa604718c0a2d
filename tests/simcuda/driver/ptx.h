// ptx.h - what a PTX text says of its kernels: their names and the layout of their parameters. Nothing else is read.
//
// Callers: any thread. Fails: nullopt where the text is not PTX or a declaration can't be read.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simcuda/simcuda_kernel.h"

namespace simcuda {

struct PtxEntry {
    std::string name;
    std::vector<simcuda_param> params;
};

bool looks_like_ptx(std::string_view text);  // the first thing that is no comment is ".version"
std::optional<std::vector<PtxEntry>> ptx_entries(std::string_view text);

}  // namespace simcuda
