#!/usr/bin/env bash
# Has spin search every state of the protocol's models (docs/protocol/*.pml): each must hold as it stands, and each mistake
# seeded by one of its BUG_ switches must be refuted. Also: the models' extent states are those of bpf/tierd_policy.h.
# Exit status: 0 all as it should be; 1 otherwise, with a line for each surprise; 77 spin is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
models=$PWD/docs/protocol

command -v spin >/dev/null || { echo "skipped: spin is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# search OPTIMISATION MODEL [-DBUG]: prints spin's count of errors. A search that was cut short counts as an error of its own.
search() {
  spin -a "${@:3}" "$models/$2" >/dev/null
  gcc "$1" -w -DSAFETY -DCOLLAPSE -DMEMLIM=3000 -o pan pan.c
  ./pan -m500000 >found
  if grep -q 'max search depth too small\|out of memory' found; then
    echo "truncated"
  else
    sed -n 's/.*errors: \([0-9]*\)$/\1/p' found
  fi
}

failures=0
surprise() { echo "$1"; failures=$((failures + 1)); }

states=$(sed -n 's/^\tTIERD_EXTENT_\([A-Z]*\) = [0-9]*, *\/\*.*/\L\1/p' "$models/../../bpf/tierd_policy.h" | tr '\n' ' ')
grep -q "mtype = { ${states// /, }" <(sed 's/ };/, };/' "$models/extent.pml") ||
  surprise "extent.pml does not name the extent states of tierd_policy.h: $states"

for path in "$models"/*.pml; do
  model=$(basename "$path")
  errors=$(search -O2 "$model")
  [[ $errors == 0 ]] || surprise "$model: $errors errors where there should be none"
  echo "$model holds in $(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' found) states"
  for bug in $(grep -o 'BUG_[A-Z_]*[A-Z]' "$path" | sort -u); do
    errors=$(search -O0 "$model" "-D$bug") # found soon: compiling takes longer than searching
    [[ $errors == [1-9]* ]] || surprise "$model: $bug is not refuted ($errors errors)"
    echo "$model refutes $bug: $(sed -n 's/^pan:1: //p' found)"
  done
done
[[ $failures -eq 0 ]]
