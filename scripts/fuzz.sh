#!/usr/bin/env bash
# Builds the fuzzers of weight files' headers and of traces in build/fuzz and runs each for FUZZ_SECONDS (60). What they find stays
# in build/fuzz/found-NAME. Exit status: 0 nothing found; otherwise the fuzzer's, and its last lines say which input.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTIERD_FUZZ=ON \
  -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19 -DTIERD_SANITIZE=address,undefined,fuzzer-no-link >/dev/null
ninja -C build/fuzz gguf_fuzz safetensors_fuzz trace_fuzz
for format in gguf safetensors trace; do
  mkdir -p "build/fuzz/found-$format"
  "build/fuzz/tests/${format}_fuzz" -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1 \
    -artifact_prefix="build/fuzz/found-$format/" "build/fuzz/found-$format" "tests/fuzz/corpus/$format"
done
