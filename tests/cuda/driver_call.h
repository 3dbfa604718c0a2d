// driver_call.h - for the driver-API programs of these tests: a call that has to succeed.
//
// Fails:     ends the program with status 2, after a line that names the call and its error.
#pragma once

#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>

#include <cstdio>
#include <cstdlib>

inline void ok(CUresult result, const char* what) {
    if (result == CUDA_SUCCESS) return;
    std::printf("%s: error %d\n", what, static_cast<int>(result));
    std::exit(2);
}
#define OK(call) ok(call, #call)
