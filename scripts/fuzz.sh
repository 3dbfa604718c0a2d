#!/usr/bin/env bash
# Builds the fuzzers in build/fuzz and runs each, or those named as arguments, for FUZZ_SECONDS (60). What they find stays in
# build/fuzz/found-NAME. Exit status: 0 nothing found; otherwise the fuzzer's, and its last lines say which input.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTIERD_FUZZ=ON \
  -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19 -DTIERD_SANITIZE=address,undefined,fuzzer-no-link >/dev/null
ninja -C build/fuzz tierd_fuzzers
names=("$@")
[[ ${#names[@]} -gt 0 ]] || names=($(cd tests/fuzz/corpus && ls))
for name in "${names[@]}"; do
  echo "fuzzing $name"
  mkdir -p "build/fuzz/found-$name"
  # The server's threads may be about to end when an input is done, and what they hold looks lost in that moment: leaks are
  # looked for at the end instead.
  leaks=1
  [[ $name == wire ]] && leaks=0
  "build/fuzz/tests/${name}_fuzz" -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1 -rss_limit_mb=4096 -detect_leaks=$leaks \
    -artifact_prefix="build/fuzz/found-$name/" "build/fuzz/found-$name" "tests/fuzz/corpus/$name"
done
