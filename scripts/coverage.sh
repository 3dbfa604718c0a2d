#!/usr/bin/env bash
# Runs the tests with a build that counts lines, in build/coverage, and says which of lib/ and cuda_shim/ ran:
# build/coverage/coverage.json (a file an entry), coverage.txt (the same, with the numbers of the lines that did not run) and
# index.html. Options go to ctest; with -R the counters of the tests named come on top of those of earlier runs.
#
# Not counted: what ran in the guest (its disk goes with it), in a program that was killed, and in a child of a test that ended
# by _exit(). Exit status: 0 counted, whatever the tests said (their log is build/coverage/tests.log); 1 not built, not counted.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/build/coverage
cmake --preset coverage >/dev/null
cmake --build "$folder" -j "${JOBS:-$(nproc)}"
[[ " $* " == *" -R "* ]] || find "$folder" -name '*.gcda' -delete
# Programs of other users write counters too.
umask 0
find "$folder" -type d -exec chmod a+rwx {} +
ctest --test-dir "$folder" --timeout 900 --output-on-failure -E '^(guest_test|protocol_models|changelog_)' "$@" | tee "$folder/tests.log" || true

gcovr --root . --object-directory "$folder" --filter lib/ --filter cuda_shim/ --exclude-throw-branches --exclude-unreachable-branches \
  -j "$(nproc)" --json-summary-pretty --json-summary "$folder/coverage.json" --txt "$folder/coverage.txt" \
  --html-details "$folder/index.html" "$folder"
python3 - "$folder/coverage.json" <<'PYTHON'
import collections, json, sys
summary = json.load(open(sys.argv[1]))
parts = collections.defaultdict(lambda: [0, 0])
for file in summary["files"]:
    part = parts["/".join(file["filename"].split("/")[:2])]
    part[0] += file["line_covered"]
    part[1] += file["line_total"]
parts["all"] = [sum(column) for column in zip(*parts.values())]
for name, (covered, total) in sorted(parts.items()):
    print(f"{name:24} {covered:6} of {total:6} lines {100 * covered / total:5.1f} %")
PYTHON
