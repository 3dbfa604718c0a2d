#!/usr/bin/env bash
# Makes build/venv-fuzz-api (or $VENV): the Python environment of the control API's fuzzer. Its content is
# scripts/fuzz-api-requirements.txt; a stamp makes a second call quick, a changed list or Python makes it anew.
# Exit status: 0 ready; otherwise pip's, with pip's words.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-build/venv-fuzz-api}
list=scripts/fuzz-api-requirements.txt
stamp=$venv/.tierd-fuzz-api
want="$(python3 --version) $(sha256sum <"$list")"

[[ -f $stamp && $(<"$stamp") == "$want" ]] && exit 0

[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$list"
echo "$want" >"$stamp"
