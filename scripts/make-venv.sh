#!/usr/bin/env bash
# Makes build/venv (or $VENV): the Python environment of the engines that tests and the demo drive. Its content is
# scripts/engines.txt; a stamp makes a second call quick, a changed list or Python makes it anew.
# Exit status: 0 ready; otherwise pip's, with pip's words.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-build/venv}
list=scripts/engines.txt
stamp=$venv/.tierd-engines
want="$(python3 --version) $(sha256sum <"$list")"

[[ -f $stamp && $(<"$stamp") == "$want" ]] && exit 0

echo "making $venv (once; about 390 MB from PyPI)"
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$list"
echo "$want" >"$stamp"
