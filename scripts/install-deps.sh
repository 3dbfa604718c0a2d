#!/usr/bin/env bash
# Installs what the project needs and this Debian 12 lacks. Does nothing, quickly, when all is there.
#   install-deps.sh         what build, test and demo need
#   install-deps.sh lint    and the pinned formatter, which brings 130 MB of LLVM along
#   install-deps.sh fuzz    and the compiler that has a fuzzer
#   install-deps.sh bench   and what benchmarks count with
#   install-deps.sh coverage  and what adds up which lines ran
# Exit status: 0 all there; 1 something is missing and could not be installed (the message says what).
set -euo pipefail

build=(
  g++                     # the compiler: C++23 as far as g++ 12 goes
  make                    # the front door
  cmake                   # the build
  ninja-build             # the build's engine
  ccache                  # a second build costs seconds
  pkg-config              # finds the C libraries below
  git                     # names the files that lint looks at
  clang-19                # compiles policies: BPF with CO-RE
  libbpf-dev              # loads them, and the headers that they include
  libelf-dev              # reads and patches their objects; reads the symbols of engines
  libpfm4-dev             # names of the processor's events
  libboost-dev            # Beast: the control API's HTTP
  libboost-test-dev       # the tests' frame
  libcli11-dev            # command lines
  libfmt-dev              # text; g++ 12 has no <format>
  libspdlog-dev           # logs
  libsqlite3-dev          # the state database
  libsystemd-dev          # readiness and socket activation
  libtomlplusplus-dev     # the configuration file
  liburing-dev            # reads
  libxxhash-dev           # checksums
  nlohmann-json3-dev      # JSON
)
run=(
  ca-certificates         # pip reaches PyPI
  python3                 # engines and the demo
  python3-venv            # their environment, build/venv
  e2fsprogs               # tests that make a file system of their own
  spin                    # checks the protocol's models
  util-linux              # fincore, losetup, setpriv
  linux-perf              # writes the recordings that replay is tested with
  qemu-system-x86         # the guest: a machine with several memory tiers, for tests (scripts/guest.sh)
  busybox-static          # what runs in it
  cpio                    # packs it
  zstd                    # unpacks its kernel
)
lint=(
  clang-format-19         # the version that .clang-format is written for
)
fuzz=(
  clang-19                # -fsanitize=fuzzer; g++ has none
  libclang-rt-19-dev      # its runtime
)
bench=(
  valgrind                # counts the instructions of a launch
  fio                     # says what the disk gives
)
coverage=(
  gcovr                   # adds up what gcov counted
)

wanted=("${build[@]}" "${run[@]}")
case ${1:-} in
  "") ;;
  lint) wanted+=("${lint[@]}") ;;
  fuzz) wanted+=("${fuzz[@]}") ;;
  bench) wanted+=("${bench[@]}") ;;
  coverage) wanted+=("${coverage[@]}") ;;
  *) echo "install-deps.sh: no such group: $1 (lint, fuzz, bench, coverage)" >&2; exit 1 ;;
esac

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

missing=()
for package in "${wanted[@]}"; do
  is_installed "$package" || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -eq 0 ]]; then
  as_root=(env)
elif command -v sudo >/dev/null; then
  as_root=(sudo env)
else
  echo "missing Debian packages, and neither root nor sudo to install them; as root, run:" >&2
  echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

echo "installing: ${missing[*]}"
apt() { "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q "$@"; }
apt update
apt install -y --no-install-recommends "${missing[@]}"
