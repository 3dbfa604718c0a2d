#!/usr/bin/env bash
# gpu-check.sh [--simulated] [--build DIR] [--memory-mib N] [--out FILE]: tries the CUDA half of tierd on this machine's NVIDIA GPU,
# unattended and in ten minutes, and writes one JSON (build/gpu-check.json). It needs the CUDA 13 toolkit, the GPU's driver, and
# what the tree carries; it builds first what is not built. --simulated: on the simulated GPU, to try the check itself.
# Never takes more than N MiB of the GPU (2048) besides contexts, and never asks for managed memory that is not free.
# Exit status: 0 all checks hold; 1 one does not, or something failed (the last lines say what); 77 there is no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build
arguments=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --build) build=$2; shift 2 ;;
    --simulated) arguments+=("$1"); shift ;;
    --memory-mib | --out) arguments+=("$1" "$2"); shift 2 ;;
    *) sed -n '2,6s/^# //p' "$0" >&2; exit 1 ;;
  esac
done

if [[ ! -x $build/simcuda/mini_infer || ! -x $build/bin/tierd-run || ! -f $build/lib/libtierd_shim.so ]]; then
  [[ $build == build ]] || { echo "gpu-check: $build has no mini engine or no tierd: was a CUDA toolkit found?" >&2; exit 1; }
  make build
fi
exec python3 scripts/gpu_check.py --build "$build" "${arguments[@]}"
