#!/usr/bin/env bash
# Makes build/venv-bench (or $VENV): the Python environment of the benchmarks. Its content is bench-requirements.txt.
# Two of the rivals want torch, which is 1.2 GB with libraries of CUDA: they are measured where $TORCH_SITE names a
# site-packages folder that has it, and reported as skipped otherwise.
# Exit status: 0 ready; otherwise pip's, with pip's words.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-build/venv-bench}
list=scripts/bench-requirements.txt
stamp=$venv/.tierd-bench
want="$(python3 --version) ${TORCH_SITE:-} $(sha256sum <"$list")"

[[ -f $stamp && $(<"$stamp") == "$want" ]] && exit 0

command -v fio >/dev/null || echo "fio is missing (apt-get install fio): the rows that compare with the disk's limit will be skipped"
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$list"
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "${TORCH_SITE:-}" >"$site/torch-elsewhere.pth"
echo "$want" >"$stamp"
