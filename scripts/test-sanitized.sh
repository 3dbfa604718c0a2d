#!/usr/bin/env bash
# Builds everything with a sanitizer, in build/asan or build/tsan, and runs the tests with it: test-sanitized.sh asan|tsan [ctest's options]
# What a daemon or a test program was caught at lies in build/*san/reports, one file a process.
# Exit status: 0 all tests passed and nothing was caught; 1 otherwise.
#
# Left out, and why:
#   engine_*, guide, mini_engine_test   engines and whole machines: the shim is preloaded into programs that are not ours
#   guest*                               the same tests in a virtual machine; not built with a sanitizer
#   cuda_coverage_test, simcuda_symbols_test, demo_gpu, gpu_check  preload the library that ships, without a runtime before it
#   protocol_models, changelog_*         nothing of them is compiled
#   cuda_shim_test, engine_shim_test, uvm_test (asan only)  not tried with it yet
#   policy_test, policies_test, policy_replay_test (tsan only)  one thread, and slow
#   sample_ring_test (tsan only)         counts the page faults of its process, to which the sanitizer adds its own
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?usage: test-sanitized.sh asan|tsan [options of ctest]}
shift
reports=$PWD/build/$kind/reports
cmake --preset "$kind" >/dev/null
cmake --build "build/$kind" -j "${JOBS:-$(nproc)}"
rm -rf "$reports" && mkdir -p "$reports"

left_out='^(engine_(llama|safetensors)|guide|mini_engine|guest|cuda_coverage|demo_gpu|gpu_check|simcuda_symbols|protocol_models|changelog'
if [[ $kind == tsan ]]; then
  left_out+='|policy_test|policies_test|policy_replay|sample_ring'
else
  left_out+='|cuda_shim|engine_shim|uvm_test'
fi
# A daemon that is killed on purpose has leaked nothing; one that ends by itself is looked at.
export ASAN_OPTIONS=log_path=$reports/report:detect_leaks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=log_path=$reports/report:print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=log_path=$reports/report
status=0
ctest --test-dir "build/$kind" --timeout 900 --output-on-failure -E "$left_out)" "$@" || status=1
for report in "$reports"/*; do
  [[ -e $report ]] || break
  echo "caught: $(grep -h -m1 SUMMARY "$report") ($report)"
  status=1
done
exit $status
