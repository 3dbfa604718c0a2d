"""Writes into a private mapping of a file, reads all of it again and again, and compares with what must be there."""

import sys

import numpy

STEP_BYTES = 3 << 20  # not a multiple of 2 MiB, so that written pages lie anywhere within extents
MARK = 0x5A


def main():
    path = sys.argv[1]
    before = numpy.fromfile(path, dtype=numpy.uint8)  # read(2): not through the mapping
    wanted = before.copy()
    private = numpy.memmap(path, dtype=numpy.uint8, mode="c")
    written = numpy.arange(0, wanted.size, STEP_BYTES)
    private[written] = MARK
    wanted[written] = MARK
    for _ in range(3):
        if not numpy.array_equal(private, wanted):
            sys.exit(f"{numpy.count_nonzero(private != wanted)} bytes are wrong")
    if not numpy.array_equal(numpy.fromfile(path, dtype=numpy.uint8), before):
        sys.exit("the file itself was changed")
    print("ok")


if __name__ == "__main__":
    main()
