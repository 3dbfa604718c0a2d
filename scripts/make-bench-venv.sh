#!/usr/bin/env bash
# make-bench-venv.sh [--torch]: makes build/venv-bench (or $VENV), the Python environment of the benchmarks. Its content is
# bench-requirements.txt. Two of the rivals want torch, whose wheel wants a CUDA 13 toolkit's libraries even to run on
# processors: --torch adds it (bench-torch-requirements.txt, 2.3 GB); without it their rows are reported as skipped.
# Exit status: 0 ready; 1 torch does not import here, with its words; otherwise pip's, with pip's words.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-build/venv-bench}

# install LIST: into the environment, unless this very list is there already.
install() {
  local stamp want
  stamp=$venv/.tierd-$(basename "$1" .txt)
  want="$(python3 --version) $(sha256sum <"$1")"
  [[ -f $stamp && $(<"$stamp") == "$want" ]] && return
  [[ -x $venv/bin/python ]] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$1"
  echo "$want" >"$stamp"
}

install scripts/bench-requirements.txt
[[ ${1:-} == --torch ]] || exit 0
install scripts/bench-torch-requirements.txt
"$venv/bin/python" -c 'import torch'
