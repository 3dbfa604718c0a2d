"""The disk's own limit, by fio: io_uring, O_DIRECT, 2 MiB at depth 8, the whole file once."""

import json
import subprocess

from context import CannotRun


def bytes_per_s(path):
    command = ["fio", "--name=limit", f"--filename={path}", "--readonly", "--rw=read", "--bs=2M", "--ioengine=io_uring",
               "--iodepth=8", "--direct=1", "--output-format=json"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise CannotRun("fio is not installed: apt-get install fio") from None
    if ended.returncode != 0:
        raise CannotRun(f"fio: {ended.stderr.strip().splitlines()[-1]}")
    read = json.loads(ended.stdout[ended.stdout.index("{"):])["jobs"][0]["read"]
    return read["bw_bytes"]
