"""A memory cgroup of its own for one run, so that an engine with its page cache and an engine with tierd have the same.

Version 1 and version 2 of the kernel's interface. Made and removed by this process alone; needs root.
"""

import os
import pathlib
import signal
import time

V1 = pathlib.Path("/sys/fs/cgroup/memory")
V2 = pathlib.Path("/sys/fs/cgroup")


class MemoryCgroup:
    def __init__(self, limit_bytes):
        self.v1 = (V1 / "memory.limit_in_bytes").exists()
        self.path = (V1 if self.v1 else V2) / f"tierd-bench-{os.getpid()}-{time.monotonic_ns()}"
        self.limit_bytes = limit_bytes

    def __enter__(self):
        if not self.v1:
            (V2 / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        (self.path / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(str(self.limit_bytes))
        if not self.v1:
            (self.path / "memory.swap.max").write_text("0")
        return self

    def __exit__(self, *_):
        for _ in range(200):
            pids = (self.path / "cgroup.procs").read_text().split()
            for pid in pids:  # only what was started in here can be in here
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.path} can't be removed")

    def enter(self):
        """For subprocess's preexec_fn: puts the calling process into the cgroup."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak_bytes(self):
        return int((self.path / ("memory.max_usage_in_bytes" if self.v1 else "memory.peak")).read_text())

    def oom_kills(self):
        events = self.path / ("memory.oom_control" if self.v1 else "memory.events")
        return int(dict(line.split() for line in events.read_text().splitlines()).get("oom_kill", 0))
