"""The machine that a benchmark runs on: what it is, its page cache, its disk's counters, its memory pool.

Nothing here changes a lasting setting. Dropping the cache concerns the named file alone, so others are not disturbed.
"""

import json
import mmap
import os
import pathlib
import platform
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
MADV_POPULATE_WRITE = 23  # Linux 5.14; Python has no name for it
REPORTED = pathlib.Path("/sys/module/page_reporting/parameters/reported_kib")
HUGE_PAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
PACKAGES = ["xllamacpp", "safetensors", "numpy", "torch", "runai-model-streamer", "fastsafetensors"]


def first_line(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def meminfo(key):
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key + ":"))


def cpu_model():
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def describe(path):
    device = block_device(path)
    queue = pathlib.Path("/sys/block", device, "queue") if device else None
    return {
        "cpu": cpu_model(), "cpus": os.cpu_count(), "memory_bytes": meminfo("MemTotal"),
        "kernel": platform.release(), "disk": device,
        "read_ahead_kb": int(queue.joinpath("read_ahead_kb").read_text()) if queue else None,
        "file_system": first_line(["stat", "-f", "-c", "%T", str(path)]),
        "load_average": os.getloadavg()[0],
    }


def versions(programs, python):
    found = {"python": platform.python_version(), "fio": first_line(["fio", "--version"]),
             "tierd": first_line([str(programs / "tierd"), "--version"])}
    code = ("import importlib.metadata as m, json\nr = {}\nfor p in %r:\n try: r[p] = m.version(p)\n"
            " except m.PackageNotFoundError: pass\nprint(json.dumps(r))" % PACKAGES)
    found.update(json.loads(subprocess.check_output([python, "-c", code], text=True)))
    return {name: version for name, version in found.items() if version}


def commit():
    head = first_line(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]) or "unknown"
    changed = subprocess.run(["git", "-C", str(ROOT), "diff", "--quiet", "HEAD"], capture_output=True).returncode
    return head + ("+changes" if changed else "")


def block_device(path):
    """Name under /sys/block of the disk that the path lies on, or None (overlay, network, tmpfs)."""
    device = os.stat(path).st_dev
    node = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    if not node.exists():
        return None
    return node.parent.name if (node / "partition").exists() else node.name


def disk_bytes_read(path):
    """Bytes read from that disk since boot, by everybody; None where it can't be known."""
    device = block_device(path)
    if not device:
        return None
    return int(pathlib.Path("/sys/block", device, "stat").read_text().split()[2]) * 512


def cached_bytes(path):
    return int(subprocess.check_output(["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]))


def drop_cache(path):
    """Makes the kernel forget the file's pages. Fails when some stay: a warm file would be measured as a cold one."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    left = cached_bytes(path)
    if left > 1 << 20:
        raise RuntimeError(f"{left} bytes of {path} stay in the page cache: does another process have it mapped?")


def fill_cache(path, small_pages=False):
    """Reads the file into the page cache. `small_pages`: as single 4 KiB pages, because the kernel maps large folios
    whole, which a trace of touches would show as touches."""
    with open(path, "rb", buffering=0) as file:
        if small_pages:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        buffer = bytearray(8 << 20)
        while file.readinto(buffer):
            pass


def warm_pool(size_bytes):
    """Touches that much memory and gives it back, as huge pages. In a virtual machine the first touch of a page is the
    host's to serve, and a balloon with free page reporting returns idle pages to it within seconds: without this
    whoever comes first, or comes later, pays for more than his own work."""
    size_bytes = min(size_bytes, meminfo("MemAvailable") - (1 << 30))
    if size_bytes <= 0:
        return
    with mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pool:
        pool.madvise(mmap.MADV_HUGEPAGE)
        pool.madvise(MADV_POPULATE_WRITE)


def settle(quiet_s=2.6, most_s=60):
    """Waits until a virtual machine's kernel has given its free memory back to the host: while it does, in passes two seconds apart
    after gigabytes were freed, the disk answers ten times later. False where no such counter is kept: nobody can tell."""
    if not REPORTED.exists():
        return False
    begin = changed = time.monotonic()
    seen = REPORTED.read_text()
    while time.monotonic() - changed < quiet_s and time.monotonic() - begin < most_s:
        time.sleep(0.25)
        if (now := REPORTED.read_text()) != seen:
            seen, changed = now, time.monotonic()
    return True


class HugePagePool:
    """Reserves huge pages for one run and gives back what it added. OSError where they can't be had."""

    def __init__(self, size_bytes):
        self.wanted = size_bytes // (2 << 20) + 8

    def __enter__(self):
        self.before = int(HUGE_PAGES.read_text())
        HUGE_PAGES.write_text(str(self.before + self.wanted))
        got = int(HUGE_PAGES.read_text()) - self.before
        if got < self.wanted:
            self.__exit__()
            raise OSError(f"only {got} of {self.wanted} huge pages could be reserved")

    def __exit__(self, *_):
        HUGE_PAGES.write_text(str(self.before))
