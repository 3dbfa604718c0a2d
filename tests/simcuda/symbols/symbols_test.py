"""Which functions of the driver there are: what libcudart.so.13 asks for at start-up, and what the toolkit's stub exports.

Writes both lists to cuda_symbols.tsv in the build folder, says of each whether the simulated driver has it, and checks that
docs/cuda-coverage.md speaks of every one that cuda.h declares (those of the headers for graphics and profiling take no
memory that we know; they are listed as such). Skipped (77) where the toolkit's libraries are not there.

usage: symbols_test.py RECORDER_FOLDER SIMCUDA_LIBRARY CUDA_LIBRARY_FOLDER STUB CUDA_H OUTPUT COVERAGE_PAGE
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ASK = "import ctypes; n = ctypes.c_int(); ctypes.CDLL('libcudart.so.13').cudaGetDeviceCount(ctypes.byref(n))"


def asked(recorder, libraries):
    """(name, version, flags) in the order in which the real runtime asks."""
    with tempfile.NamedTemporaryFile("r") as file:
        subprocess.run([sys.executable, "-c", ASK], check=True,
                       env=os.environ | {"LD_LIBRARY_PATH": f"{recorder}:{libraries}", "SYMBOLS_FILE": file.name})
        asks = [tuple(line.rstrip("\n").split("\t")) for line in file]
        return [ask for ask in asks if ask[0]]  # it also asks for a function without a name


def exported(library):
    lines = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    return sorted(line.split()[2] for line in lines.splitlines() if re.match(r"cu[A-Z]", line.split()[-1]))


def stem(symbol):
    return re.sub(r"_pt[ds][sz]$", "", symbol)


def base(symbol):
    return re.sub(r"_v\d+$", "", stem(symbol))


def write(output, asks, exports, simulated):
    bases = {base(symbol) for symbol in simulated}
    with open(output, "w") as file:
        file.write("how\tname\tversion\tflags\tsimulated\n")
        for name, version, flags in asks:
            file.write(f"asked\t{name}\t{version}\t{flags}\t{'yes' if name in bases else 'no'}\n")
        for name in exports:
            file.write(f"exported\t{name}\t\t\t{'yes' if name in simulated else 'no'}\n")


def main():
    recorder, simulator, libraries, stub, header, output, page = map(pathlib.Path, sys.argv[1:])
    for needed in (libraries / "libcudart.so.13", stub):
        if not needed.exists():
            print(f"skipped: no {needed}")
            return 77
    asks, exports, simulated = asked(recorder, libraries), exported(stub), set(exported(simulator))
    write(output, asks, exports, simulated)
    names = {name for name, _, _ in asks}
    print(f"libcudart.so.13 asks {len(asks)} times for {len(names)} names; the stub exports {len(exports)} symbols; "
          f"{len(simulated)} are simulated: {output}")
    if len(asks) < 400 or len(exports) < 600:
        print("fewer than this toolkit is known to have: the recorder was not asked, or nm was misread")
        return 1
    if not page.exists():
        print(f"{page} is not there: nothing to compare with")
        return 0
    declared = {base(name) for name in re.findall(r"(?:CUDAAPI|#define cu\w+)\s+(cu[A-Z]\w*)", header.read_text())}
    elsewhere = sorted(n for n in names if n not in declared)
    print(f"{len(elsewhere)} names that other headers declare: {' '.join(elsewhere)}")
    told = set(re.findall(r"\bcu[A-Z]\w*", page.read_text()))
    told_bases = {base(symbol) for symbol in told}
    missing = sorted({s for s in exports if base(s) in declared and stem(s) not in told} | {n for n in names & declared if n not in told_bases})
    if missing:
        print(f"{page} says nothing of: {' '.join(missing)}")
    return 1 if missing else 0


sys.exit(main())
