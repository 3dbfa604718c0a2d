#!/usr/bin/env bash
# Runs the tests with a sanitizer: test-sanitized.sh asan|tsan [ctest's options]. asan is address and undefined, tsan is thread.
# What a program was caught at lies in build/*san/reports, one file a process.
# Exit status: 0 all tests passed and nothing was caught; 1 otherwise.
#
# Tests that look at code of ours in their own process are built with the sanitizer, in build/asan or build/tsan. Those that
# only drive other programs (label integration) are the ordinary build's and drive that folder's tierd, tierctl and tierd-run.
# The preloaded library is built without: it lives in programs that are not ours, whose runtime would have to come first.
#
# Left out, and why:
#   engine_llama_test, engine_safetensors_test  engines from PyPI drive the same tierd as the other tests, only more slowly
#   guide_*, guest_test  the same, in a shell and in an emulated machine
#   mini_engine_test, cuda_coverage_test, simcuda_symbols_test, demo_gpu, gpu_check  preload the library that ships, without a
#                        runtime before it
#   protocol_models, changelog_*  nothing of them is compiled
#   policy_test, policies_test, policy_replay_test (tsan only)  one thread, and slow
#   sample_ring_test (tsan only)  counts the page faults of its process, to which the sanitizer adds its own
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?usage: test-sanitized.sh asan|tsan [options of ctest]}
shift
programs=$PWD/build/$kind
reports=$programs/reports
for preset in release "$kind"; do
  cmake --preset "$preset" >/dev/null
done
for folder in build "$programs"; do
  cmake --build "$folder" -j "${JOBS:-$(nproc)}"
done
rm -rf "$reports" && mkdir -p "$reports"
# Processes of other users write reports too, and asan's counters of lines.
umask 0
find "$programs" -type d -exec chmod a+rwx {} +

left_out='^(engine_(llama|safetensors)|guide|mini_engine|guest|cuda_coverage|demo_gpu|gpu_check|simcuda_symbols'
left_out+='|protocol_models|changelog'
if [[ $kind == tsan ]]; then
  left_out+='|policy_test|policies_test|policy_replay|sample_ring'
fi
left_out+=')'
# A daemon that is killed on purpose has leaked nothing; one that ends by itself is looked at. The order of libraries is not
# checked: tierd-run is started with another one preloaded.
export ASAN_OPTIONS=log_path=$reports/report:detect_leaks=1:detect_stack_use_after_return=1:verify_asan_link_order=0
export UBSAN_OPTIONS=log_path=$reports/report:print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=log_path=$reports/report
status=0
ctest --test-dir "$programs" --timeout 900 --output-on-failure -LE integration -E "$left_out" "$@" || status=1
TIERD_PROGRAMS_DIR=$programs \
  ctest --test-dir build --timeout 900 --output-on-failure -L integration -E "$left_out" "$@" || status=1
for report in "$reports"/*; do
  [[ -e $report ]] || break
  echo "caught: $(grep -h -m1 SUMMARY "$report") ($report)"
  status=1
done
exit $status
