"""Cold load of a safetensors file to memory, first byte to last, tierd and its rivals in turn.

Every contender runs in a memory cgroup that has room for twice the file (some hold two copies for a moment), with the
file dropped from the page cache and the pool of free memory warmed before. Bytes/s are the file's size by the time until the last tensor was there.
"""

import statistics
import time

import disk
import machine
import rows
from context import GIB, HERE, CannotRun, cgroup

LOADER = HERE / "engines" / "loader.py"
PEERS = {"mmap": ["touch"], "mmap_2_threads": ["touch", "--threads", "2"], "read": ["read"], "safetensors": ["safe_open"],
         "runai_model_streamer": ["runai"], "fastsafetensors": ["fastsafetensors"]}
NEVER_HERE = {"serverless_llm_store": "needs CUDA host registration, and does not build for this Python",
              "instanttensor": "CUDA only"}


class Load:
    def __init__(self, bench):
        self.bench = bench
        self.path = bench.model("safetensors", bench.sizes.load)
        self.bytes = self.path.stat().st_size
        self.speeds, self.first, self.skipped, self.disk = {}, {}, dict(NEVER_HERE), []

    def note(self, name, record):
        self.speeds.setdefault(name, []).append(self.bytes / record["seconds"])
        if record.get("first_tensor_s"):
            self.first.setdefault(name, []).append(record["first_tensor_s"])

    def prepare(self):
        self.bench.cold(self.path)
        self.bench.warm_pool(self.bytes * 5 // 4)

    def peer(self, name, arguments):
        if name in self.skipped:
            return
        self.prepare()
        with cgroup(2 * self.bytes + GIB) as group:
            try:
                command = [self.bench.python, LOADER, arguments[0], self.path, *arguments[1:]]
                self.note(name, self.bench.run(command, group))
            except CannotRun as why:
                self.skipped[name] = str(why)
        self.bench.cold(self.path)

    def served(self, name, arguments):
        """tierd, with the engine's touches."""
        self.prepare()
        with cgroup(2 * self.bytes + GIB) as group, self.bench.tierd(group, self.bytes + GIB // 4) as tierd:
            command = tierd.client([self.bench.python, LOADER, arguments[0], self.path, *arguments[1:]])
            self.note(name, self.bench.run(command, group))
            self.check(tierd)

    def preload(self):
        self.prepare()
        before = machine.disk_bytes_read(self.path)
        with cgroup(2 * self.bytes + GIB) as group, self.bench.tierd(group, self.bytes + GIB // 4) as tierd:
            begin = time.monotonic()
            tierd.preload(self.path)
            self.note("preload", {"seconds": time.monotonic() - begin})
            self.check(tierd)
        if before is not None:
            self.disk.append(machine.disk_bytes_read(self.path) - before)

    def read_unmeasured(self):
        self.bench.cold(self.path)
        with open(self.path, "rb", buffering=0) as file:
            while file.read(8 << 20):
                pass

    def check(self, tierd):
        status = tierd.status()
        self.bench.check_served(status)
        if not 0.99 * self.bytes < status["counters"]["bytes_read"] < 1.02 * self.bytes + (4 << 20):
            raise RuntimeError(f"tierd read {status['counters']['bytes_read']} bytes of a file of {self.bytes}")

    def round(self):
        # Once unmeasured: a virtual machine's disk may have a cache of its own, and then the first reader of a round alone
        # would see the disk.
        self.read_unmeasured()
        self.prepare()
        try:
            self.speeds.setdefault("fio", []).append(disk.bytes_per_s(self.path))
        except CannotRun as why:
            self.skipped["fio"] = str(why)
        self.preload()
        self.served("touch", ["touch"])
        self.peer("mmap", PEERS["mmap"])
        self.served("touch_2_threads", PEERS["mmap_2_threads"])
        for name, arguments in PEERS.items():
            if name != "mmap":
                self.peer(name, arguments)
        self.served("safetensors_on_tierd", PEERS["safetensors"])

    def against(self, name, ours, peer, note=""):
        if peer not in self.speeds:
            return rows.skipped(name, "bytes_per_s", self.skipped.get(peer, "the peer did not run"))
        return rows.row(name, "bytes_per_s", self.speeds[ours], peer, self.speeds[peer], note, digits=0)

    def results(self):
        disk_note = f"the disk's counter: {statistics.median(self.disk) / self.bytes:.3f} x the file" if self.disk else ""
        found = [self.against("preload_vs_fio", "preload", "fio", disk_note),
                 self.against("touch_vs_mmap", "touch", "mmap"),
                 self.against("touch_2_threads_vs_mmap", "touch_2_threads", "mmap_2_threads"),
                 self.against("safetensors_on_tierd", "safetensors_on_tierd", "safetensors", "copies each tensor, as safe_open does")]
        ran = [name for name in PEERS if name in self.speeds]
        best = max(ran, key=lambda name: statistics.median(self.speeds[name]))
        found.append(self.against("best_peer", "preload", best, "tierd preload; the peer is the fastest of the rows below"))
        found += [self.against(f"peer_{name}", "preload", name) for name in [*PEERS, *NEVER_HERE]]
        found.append(rows.row("first_tensor_vs_mmap", "s", self.first["touch"], "mmap", self.first["mmap"],
                              "header read and the first tensor touched"))
        return found


def run(bench):
    load = Load(bench)
    for number in range(bench.sizes.runs):
        bench.say(f"load: round {number + 1} of {bench.sizes.runs}")
        load.round()
    return load.results()
