#!/usr/bin/env bash
# A real tierd and many readers, while tierd is killed, stopped and restarted, models come, change and go, budgets, tiers and
# policies change; every byte that is read is checked. The last line counts what happened.
#
#   scripts/chaos.sh [--minutes N] [--seed S] [--json FILE]
#
# Exit status 1: a wrong byte, a lost wake-up, a crash or a budget that did not hold. The seed is printed.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=1 more=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --minutes) minutes=$2; shift 2 ;;
    --seed|--json) more+=("$1" "$2"); shift 2 ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
[[ "$minutes" =~ ^[0-9]+$ ]] || { echo "chaos.sh: give whole minutes" >&2; exit 2; }
[[ -x build/tests/tierd_chaos ]] || { echo "chaos.sh: make build first" >&2; exit 2; }
TIERD_BUILD_DIR="$PWD/build" exec build/tests/tierd_chaos --seconds $((minutes * 60)) --logs build/chaos "${more[@]}"
