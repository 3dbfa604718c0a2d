"""One measured cold load of a safetensors file to memory, by the way that is named.

Writes {"seconds", "first_tensor_s", "bytes"}: from before the file is opened until every tensor (the first tensor) was
touched or read, page by page. Imports are not counted. With --hold it then says so and waits for its input's end.
Exit status: 0; 3 when this way is not installed or can't run here (the reason is the last line of standard error).
"""

import argparse
import json
import mmap
import os
import struct
import sys
import threading
import time

import numpy

PAGE = 4096


def layout(path):
    """Byte range of the first tensor and of all, in the file; of a file that is no safetensors, its first MiB and all."""
    with open(path, "rb") as file:
        if not path.endswith(".safetensors"):
            return 0, 1 << 20, os.path.getsize(path)
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    ranges = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
    base = 8 + length
    return base, base + ranges[0][1], base + ranges[-1][1]


def touch(view, begin, end):
    return int(view[begin:end:PAGE].sum()) + int(view[end - 1])


def touch_mapping(options, clock):
    """mmap, then one byte of each page: what any engine does that uses weights where they are mapped."""
    base, first_end, end = layout(options.file)
    with open(options.file, "rb") as file:
        view = numpy.frombuffer(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ), numpy.uint8)
    mapped = time.monotonic()
    if options.threads == 1:
        touch(view, base, first_end)
        clock.first_tensor()
        touch(view, first_end, end)
    else:
        cuts = [base + (end - base) * part // options.threads for part in range(options.threads + 1)]
        threads = [threading.Thread(target=touch, args=(view, a, b)) for a, b in zip(cuts, cuts[1:])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    clock.more["map_ms"] = 1e3 * (mapped - clock.begin)
    return view


def read_file(options, clock):
    base, first_end, end = layout(options.file)
    buffer = bytearray(0)
    with open(options.file, "rb", buffering=0) as file:
        buffer = mmap.mmap(-1, end)
        view = memoryview(buffer)
        done = 0
        while done < end:
            done += file.readinto(view[done:min(end, done + (16 << 20))])
            if done >= first_end:
                clock.first_tensor()
    return buffer


def safe_open(options, clock):
    import safetensors
    clock.start()
    held = []
    with safetensors.safe_open(options.file, framework="np") as file:
        for name in file.keys():
            held.append(file.get_tensor(name))
            clock.first_tensor()
    return held


def runai(options, clock):
    import torch  # noqa: F401; it would be imported within the time that is measured
    from runai_model_streamer import SafetensorsStreamer
    clock.start()
    held = []
    with SafetensorsStreamer() as streamer:
        streamer.stream_file(options.file)
        for _, tensor in streamer.get_tensors():
            held.append(tensor.clone())  # the streamer's buffer is used again
            clock.first_tensor()
    return held


def fast(options, clock):
    import torch  # noqa: F401; as above
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup
    clock.start()
    loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True)
    loader.add_filenames({0: [options.file]})
    buffers = loader.copy_files_to_device()
    held = [buffers.get_tensor(name) for name in loader.get_keys()]
    clock.first_tensor()
    return loader, buffers, held


WAYS = {"touch": touch_mapping, "read": read_file, "safe_open": safe_open, "runai": runai, "fastsafetensors": fast}


class Clock:
    def __init__(self):
        self.first, self.more = None, {}
        self.start()

    def start(self):
        self.begin = time.monotonic()

    def first_tensor(self):
        if self.first is None:
            self.first = time.monotonic() - self.begin


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("way", choices=WAYS)
    options.add_argument("file")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--hold", action="store_true")
    options = options.parse_args()
    clock = Clock()
    try:
        kept = WAYS[options.way](options, clock)
    except ImportError as missing:
        print(missing, file=sys.stderr)
        sys.exit(3)
    seconds = time.monotonic() - clock.begin
    print(json.dumps({"seconds": seconds, "first_tensor_s": clock.first, "bytes": os.path.getsize(options.file),
                      **clock.more}), flush=True)
    if options.hold:
        sys.stdin.read()
    del kept


if __name__ == "__main__":
    main()
