#!/usr/bin/env bash
# make-cuda.sh [--always]: puts what the build needs of a CUDA toolkit into build/cuda, where the machine has none of CUDA 13
# (CUDA_HOME, CUDA_PATH, /usr/local/cuda). Its content is cuda-requirements.txt; a stamp makes a second call quick. No GPU
# and no driver is needed: the tests run on a simulated one. --always: although a toolkit is installed.
# Exit status: 0 also where it could not be had: the build then goes without the CUDA half, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build/cuda
list=scripts/cuda-requirements.txt
stamp=$folder/.tierd-cuda
want=$(sha256sum <"$list")

is_toolkit() { [[ -n $1 && -f $1/include/cudaTypedefs.h ]] && grep -Eq '^#define CUDA_VERSION 1[3-9]' "$1/include/cuda.h"; }

[[ -f $stamp && $(<"$stamp") == "$want" ]] && exit 0
if [[ ${1:-} != --always ]]; then
  for toolkit in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda; do
    is_toolkit "$toolkit" && exit 0
  done
fi
if [[ $(uname -m) != x86_64 ]]; then
  echo "no CUDA toolkit on this machine, and none is fetched for $(uname -m): the build goes without its CUDA half"
  exit 0
fi

echo "putting parts of the CUDA toolkit into $folder (once; about 100 MB from PyPI)"
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
python3 -m venv "$fresh/venv"
if ! "$fresh/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
  --target "$fresh/cuda" --requirement "$list"; then
  echo "the CUDA toolkit could not be had: the build goes without its CUDA half, and its tests are skipped" >&2
  exit 0
fi
ln -s libcudart.so.13 "$fresh/cuda/nvidia/cu13/lib/libcudart.so" # the name that linkers look for
rm -rf "$folder"
mkdir -p build
mv "$fresh/cuda" "$folder"
echo "$want" >"$stamp"
