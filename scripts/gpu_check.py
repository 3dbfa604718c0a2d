"""The checks of scripts/gpu-check.sh: the mini engine on this machine's device, without tierd, with it, and what of that can be timed.

Each check is a row with what it found; `ok` is false where something that must hold did not. Timings are told, not judged: what
they should be is another device's matter. All that is started is ended, also when a check fails or the ten minutes are over.
"""

import argparse
import json
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import gpu  # noqa: E402
import machine  # noqa: E402
from gpu import MIB, SEGMENT  # noqa: E402

WAYS = {"pytorch": ["--load", "pytorch"], "llama": ["--load", "llama"], "llama_mmap": ["--load", "llama-mmap"], "graph": ["--graph"],
        "pool": ["--pool"]}
SHARE = 0.75        # of the cap, for what each of two processes allocates: together 1.5 times
LIMIT_S = 570
SLACK = 64 * MIB    # what a driver takes besides, for two processes: code that is loaded late, its own tables
LINK = 4 << 30      # bytes a second of the simulated GPU


class Check:
    def __init__(self, options, folder):
        self.folder, self.rows, self.engines = folder, [], []
        self.device = gpu.Device(options.build.resolve(), folder, options.simulated, memory_bytes=2 * options.memory_mib * MIB,
                             link_bytes_per_s=LINK)
        self.cap_bytes = options.memory_mib * MIB
        free, _ = self.device.memory()
        if free < self.cap_bytes + self.cap_bytes // 4:
            raise gpu.Failed(f"{free // MIB} MiB of the GPU are free: give a smaller --memory-mib")
        width = 2048 if self.cap_bytes >= 1 << 30 else 1024
        segments = round(SHARE * self.cap_bytes / SEGMENT)
        self.allocated_bytes = segments * SEGMENT
        self.layers = segments * (SEGMENT // (width * width * 4)) - 1  # the rest of the last is for what is computed
        self.models = [folder / "a.safetensors", folder / "b.safetensors"]
        gpu.make_model(self.device, self.models[0], self.layers, width)
        shutil.copyfile(*self.models)
        self.model_bytes = self.models[0].stat().st_size
        self.whole, self.tenth = (0, self.layers), (0, max(1, self.layers // 10))
        self.expected = {request: gpu.reference(self.device, self.models[0], request) for request in (self.whole, self.tenth)}

    def engine(self, *arguments, **options):
        engine = gpu.Engine(self.device, *arguments, **options)
        self.engines.append(engine)
        return engine

    def ask(self, engine, request):
        """Seconds; the answer must be the processor's."""
        seconds, checksum = engine.ask(*request)
        if checksum != self.expected[request]:
            raise gpu.Failed(f"answered {checksum}, the processor says {self.expected[request]}")
        return seconds

    def tierd(self):
        return gpu.tierd(self.device, self.folder, self.cap_bytes, self.models)

    def add(self, name, ok, **figures):
        self.rows.append({"name": name, "ok": bool(ok), **figures})
        print(f"{'ok  ' if ok else 'FAIL'} {name}: " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                                                                  for k, v in figures.items()), flush=True)

    def end_engines(self):
        while self.engines:
            self.engines.pop().kill()

    # --- the checks, in order

    def plain(self):
        engine = self.engine(self.models[0])
        first_s = self.ask(engine, self.whole)
        again_s = self.ask(engine, self.whole)
        self.add("plain", True, load_calls_s=engine.load_calls_s, first_answer_s=first_s, answer_s=again_s)
        engine.close()
        self.plain_load_s = engine.load_calls_s

    def with_the_library(self):
        for name, options in WAYS.items():
            with self.tierd() as daemon:
                daemon.preload(self.models[0])
                engine = self.engine(self.models[0], daemon, options)
                first_s, again_s = self.ask(engine, self.whole), self.ask(engine, self.whole)
                moved = engine.close()
                said = re.search(r"GPU: (\d+) bytes deferred", engine.log.read_text())
                deferred = int(said[1]) if said else 0
                self.add(f"library_{name}", deferred > 0, load_calls_s=engine.load_calls_s, first_answer_s=first_s, answer_s=again_s,
                         deferred_mib=deferred // MIB, moved_mib=None if moved is None else round(moved / MIB))

    def deferred_load(self):
        ours = []
        with self.tierd() as daemon:
            daemon.preload(self.models[0])
            for _ in range(3):
                engine = self.engine(self.models[0], daemon)
                ours.append(engine.load_calls_s)
                engine.close()
        self.add("deferred_load", True, load_calls_s=statistics.median(ours), plain_s=self.plain_load_s,
                 share_of_plain=statistics.median(ours) / self.plain_load_s)

    def two_processes(self):
        with self.tierd() as daemon:
            for model in self.models:
                daemon.preload(model)
            both = [self.engine(model, daemon) for model in self.models]
            contexts, most, answers = self.device.held_bytes(), 0, []
            for turn in range(6):
                answers.append(self.ask(both[turn % 2], self.whole))
                most = max(most, self.device.held_bytes())
            for engine in both:
                engine.close()
        held = most - contexts
        allowed = self.cap_bytes + (0 if self.device.simulated else SLACK)
        self.add("two_processes_of_1.5_times_the_cap", held <= allowed, cap_mib=self.cap_bytes // MIB,
                 allocated_mib=2 * self.allocated_bytes // MIB, held_mib=held // MIB, answer_s=statistics.median(answers))

    def reclaim(self):
        """From a request that needs what an idle process holds, until tierd has that back."""
        seconds = []
        with self.tierd() as daemon:
            for model in self.models:
                daemon.preload(model)
            both = [self.engine(model, daemon) for model in self.models]
            for turn in range(4):
                idle, other = both[turn % 2], both[(turn + 1) % 2]
                self.ask(idle, self.whole)
                time.sleep(0.2)
                seconds.append(self.lease_falls(daemon, idle.process.pid, other))
            for engine in both:
                engine.close()
        seen = [s for s in seconds if s is not None]
        self.add("reclaim_of_an_idle_process", len(seen) == len(seconds), seconds=statistics.median(seen) if seen else None,
                 worst_s=max(seen, default=None), runs=len(seconds))

    def lease_of(self, daemon, pid):
        return sum(s["gpu_lease_bytes"] for s in daemon.ask("GET", "/v1/sessions")["sessions"] if s["pid"] == pid)

    def lease_falls(self, daemon, pid, other):
        before, trouble = self.lease_of(daemon, pid), []

        def request():
            try:
                self.ask(other, self.whole)
            except (gpu.Failed, gpu.OutOfMemory) as failure:
                trouble.append(failure)

        asking = threading.Thread(target=request)
        begin, found = time.monotonic(), None
        asking.start()
        while asking.is_alive() and found is None:
            if self.lease_of(daemon, pid) < before:
                found = time.monotonic() - begin
            time.sleep(0.001)
        asking.join()
        if trouble:
            raise gpu.Failed(str(trouble[0]) or "the other process was refused memory")
        return found

    def bandwidth(self):
        """Of filling the GPU through the library, beside a copy from pinned memory with nothing around it."""
        size = min(256 * MIB, self.cap_bytes // 4)
        plain = size / statistics.median(self.device.copy_seconds(size, 5))
        rates = []
        with self.tierd() as daemon:
            daemon.preload(self.models[0])
            for _ in range(3):
                engine = self.engine(self.models[0], daemon)
                first_s, again_s = self.ask(engine, self.whole), self.ask(engine, self.whole)
                rates.append(self.model_bytes / (first_s - again_s) if first_s > again_s else plain)
                engine.close()
        ours = statistics.median(rates)
        self.add("fill_bandwidth", True, gib_per_s=ours / 2**30, pinned_copy_gib_per_s=plain / 2**30, ratio=ours / plain)

    def uvm(self):
        with self.tierd() as daemon:
            daemon.preload(self.models[0])
            free, _ = self.device.memory()
            engine = self.engine(self.models[0], daemon, variables={"TIERD_CUDA": "uvm"})
            first_s, again_s = self.ask(engine, self.whole), self.ask(engine, self.whole)
            engine.close()
        said = re.search(r"managed memory: (\d+) bytes", engine.log.read_text())
        asked = int(said[1]) if said else None
        self.add("uvm", asked is not None and asked < free, asked_mib=asked and asked // MIB, free_mib=free // MIB, first_answer_s=first_s,
                 answer_s=again_s)

    def all(self):
        for check in (self.plain, self.with_the_library, self.deferred_load, self.two_processes, self.reclaim, self.bandwidth, self.uvm):
            try:
                check()
            except gpu.OutOfMemory:
                self.add(check.__name__, False, why="the engine was refused memory of the GPU")
            except (gpu.Failed, OSError, subprocess.SubprocessError, RuntimeError) as failure:
                self.add(check.__name__, False, why=str(failure))
            finally:
                self.end_engines()


class TimeIsUp(Exception):
    pass


def on_alarm(*_):
    raise TimeIsUp


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    options.add_argument("--simulated", action="store_true")
    options.add_argument("--memory-mib", type=int, default=2048)
    options.add_argument("--out", type=pathlib.Path, default=None)
    options = options.parse_args()
    if not options.simulated and not gpu.has_real_device():
        print("skipped: no NVIDIA GPU (--simulated tries the check itself)")
        return 77
    folder = options.build.resolve() / "gpu-check"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(LIMIT_S)
    begin, check, trouble = time.monotonic(), None, None
    try:
        check = Check(options, folder)
        print(f"GPU: {check.device.name()}, driver {check.device.driver_version()}; cap {check.cap_bytes // MIB} MiB, "
              f"models of {check.model_bytes // MIB} MiB", flush=True)
        check.all()
    except TimeIsUp:
        trouble = f"not done within {LIMIT_S} s"
    except gpu.Failed as failure:
        trouble = str(failure)
    finally:
        signal.alarm(0)
        if check:
            check.end_engines()
        for model in folder.glob("*.safetensors"):
            model.unlink()
    report = {"check": "gpu", "commit": machine.commit(), "seconds": round(time.monotonic() - begin, 1), "trouble": trouble,
              "simulated": options.simulated, "machine": machine.describe(options.build)}
    if check:
        report |= {"device": check.device.name(), "driver": check.device.driver_version(), "cap_bytes": check.cap_bytes,
                   "model_bytes": check.model_bytes, "checks": check.rows}
    out = options.out or options.build / "gpu-check.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    if trouble:
        print(f"FAIL {trouble}")
    print(f"{report['seconds']} s; all of it: {out}")
    return 0 if check and not trouble and check.rows and all(row["ok"] for row in check.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
