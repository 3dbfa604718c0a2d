"""The disk's own limit, by fio: io_uring, O_DIRECT, 2 MiB at depth 8, the whole file once.

Into huge pages where they can be had: a request into small ones has 512 segments, which this kind of disk takes in several
pieces, at half the rate (measured: 1.0 to 1.3 GB/s instead of 2.0 to 2.2). A bound must not be slower than who is measured by it.
"""

import contextlib
import json
import subprocess

import machine
from context import CannotRun

COMMAND = ["fio", "--name=limit", "--readonly", "--rw=read", "--bs=2M", "--ioengine=io_uring", "--iodepth=8", "--direct=1",
           "--output-format=json"]
BUFFERS = 8 * (2 << 20)


def rate(text):
    return json.loads(text[text.index("{"):])["jobs"][0]["read"]["bw_bytes"]


def run(path, memory):
    try:
        ended = subprocess.run([*COMMAND, f"--filename={path}", f"--mem={memory}"], capture_output=True, text=True)
    except FileNotFoundError:
        raise CannotRun("fio is not installed: apt-get install fio") from None
    if ended.returncode != 0:
        raise CannotRun(f"fio: {ended.stderr.strip().splitlines()[-1]}")
    return rate(ended.stdout)


class Load:
    bytes_per_s = 0  # known when it has ended


@contextlib.contextmanager
def load(path, seconds):
    """The same reads, over and over, beside what is done in the `with` block; about `seconds` long."""
    found = Load()
    with machine.HugePagePool(2 * BUFFERS):
        process = subprocess.Popen([*COMMAND, f"--filename={path}", "--mem=mmaphuge", "--time_based", f"--runtime={seconds:.0f}"],
                                   stdout=subprocess.PIPE, text=True)
        try:
            yield found
        finally:
            text = process.communicate()[0]
    if process.returncode != 0:
        raise CannotRun(f"fio ended with status {process.returncode}")
    found.bytes_per_s = rate(text)


def bytes_per_s(path):
    try:
        with machine.HugePagePool(2 * BUFFERS):
            return run(path, "mmaphuge")
    except (OSError, CannotRun):
        return run(path, "malloc")
