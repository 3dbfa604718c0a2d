#!/usr/bin/env bash
# Fails unless the newest entry of CHANGELOG.md is about the version in VERSION.
set -euo pipefail
cd "$(dirname "$0")/.."
newest=$(sed -n 's/^## \([0-9][^ ]*\).*/\1/p' CHANGELOG.md | head -n 1)
version=$(<VERSION)
[[ $newest == "$version" ]] || { echo "CHANGELOG.md begins with $newest, VERSION says $version: write the missing one" >&2; exit 1; }
