"""Measures the device's half of tierd on the simulated device: cuda.py [--build DIR] [--out DIR] [--record].

Writes OUT/cuda.json; with --record also docs/results/cuda.json and cuda.md. The simulated device's kernels, the hash that proves
chunks unwritten among them, run on this machine's processors; so the modelled link of switch_vs_bound is slow enough to leave
them the share that they have on a device, and its speed stands in the row. Exit status: 0; 1 when something failed; 77 without CUDA.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import gpu
import machine
import rows
from gpu import MIB

RUNS = 7
SWITCH_LINK = 64 * MIB      # bytes a second
LOAD_LINK = 8 << 30         # about that of a GPU in a PCIe 3 slot
COUNTED = (1000, 11000)     # launches of the two runs whose instructions are compared
GATE_NOTE = "cuLaunchKernel through the library, less the same call without it; a driver that does nothing; everything resident"


def launch_program(build):
    """The program that launches, and its environment: no daemon, so the lease is the limit."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TIERD_")}
    variables |= {"LD_LIBRARY_PATH": str(build / "bench_cuda"), "LD_PRELOAD": str(build / "lib" / "libtierd_shim.so"),
                  "TIERD_GPU_LIMIT": str(512 * MIB), "TIERD_SOCKET": "/nonexistent/tierd.sock"}
    return build / "bench_cuda" / "launch_times", variables


def gate_ns(build):
    program, variables = launch_program(build)
    times = json.loads(subprocess.run([program], env=variables, check=True, capture_output=True, text=True).stdout)
    return rows.row("gate_ns", "ns", [ours - direct for ours, direct in zip(times["ours"], times["direct"])],
                    note=f"{GATE_NOTE}; goal: at most 20")


def instructions(build, way, launches, folder):
    program, variables = launch_program(build)
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind.out", program, way, str(launches)]
    said = subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stderr
    return int(re.search(r"Collected : (\d+)", said)[1])


def gate_instructions(build, folder):
    if not shutil.which("valgrind"):
        return rows.skipped("gate_instructions", "instructions", "no valgrind (apt-get install valgrind)")
    each = {}
    for way in ("ours", "direct"):
        few, many = (instructions(build, way, count, folder) for count in COUNTED)
        each[way] = (many - few) / (COUNTED[1] - COUNTED[0])
    return rows.row("gate_instructions", "instructions", [each["ours"] - each["direct"]],
                    note=f"callgrind; the call without the library is {each['direct']:.0f}, its loop included")


class Models:
    """Two models of the same weights, in memory before anything is measured, and a GPU that fits one of them."""

    def __init__(self, device, folder, layers, width):
        self.device, self.folder, self.layers = device, folder, layers
        self.files = [folder / f"{width}-a.safetensors", folder / f"{width}-b.safetensors"]
        gpu.make_model(device, self.files[0], layers, width)
        shutil.copyfile(*self.files)
        self.size_bytes = self.files[0].stat().st_size

    def tierd(self, capacity):
        """A daemon that leases out so many times a model."""
        return gpu.tierd(self.device, self.folder, int(self.size_bytes * capacity) // gpu.CHUNK * gpu.CHUNK, self.files)


def switch_vs_bound(models):
    """What a request costs more because the other model had the GPU before."""
    models.device.set_link(SWITCH_LINK)
    bound_s, switches = models.size_bytes / SWITCH_LINK, []
    with models.tierd(1.2) as daemon:
        for file in models.files:
            daemon.preload(file)
        engines = [gpu.Engine(models.device, file, daemon) for file in models.files]
        for turn in range(2 + RUNS):
            engine = engines[turn % 2]
            switched, first = engine.ask(0, models.layers)
            resident, again = engine.ask(0, models.layers)
            if first != again:
                raise gpu.Failed(f"a request answered {first}, and again {again}")
            if turn >= 2:  # the first two found the GPU empty or half so
                switches.append(switched - resident)
        for engine in engines:
            engine.close()
    return rows.row("switch_vs_bound", "s", switches, f"{models.size_bytes / MIB:.0f} MiB over the modelled link of {SWITCH_LINK / MIB:.0f} MiB/s",
                    [bound_s] * len(switches),
                    "a request whose model has to take the GPU from the other, less the same request again; goal: at most 1.1")


def deferred_load_vs_plain(models):
    models.device.set_link(LOAD_LINK)
    ours, plain = [], []
    with models.tierd(1.2) as daemon:
        daemon.preload(models.files[0])
        for turn in range(1 + RUNS):
            pair = []
            for server in (daemon, None):
                engine = gpu.Engine(models.device, models.files[0], server)
                pair.append(engine.load_calls_s)
                engine.close()
            if turn > 0:  # the first warms what both need
                ours.append(pair[0])
                plain.append(pair[1])
    return rows.row("deferred_load_vs_plain", "s", ours, "the same engine without tierd", plain,
                    f"until the load calls have returned; {models.size_bytes / MIB:.0f} MiB in memory, modelled link {LOAD_LINK >> 30} GiB/s; "
                    "first context included")


def lease_bytes(daemon, engine):
    return sum(s["gpu_lease_bytes"] for s in daemon.ask("GET", "/v1/sessions")["sessions"] if s["pid"] == engine.process.pid)


def seconds_until_lease_falls(daemon, idle, other):
    """From a request to `other` until tierd has back what `idle` holds."""
    before, trouble = lease_bytes(daemon, idle), []

    def request():
        try:
            other.ask(0, 1)
        except gpu.Failed as failure:
            trouble.append(failure)

    asking, begin = threading.Thread(target=request), time.monotonic()
    asking.start()
    while lease_bytes(daemon, idle) == before and asking.is_alive():
        time.sleep(0.001)
    took = time.monotonic() - begin
    asking.join()
    if trouble or lease_bytes(daemon, idle) == before:
        raise gpu.Failed(str(trouble[0]) if trouble else "nothing was asked back")
    return took


def reclaim_idle(models):
    """Two rows: all of it, and without the proof, which a GPU's memory does at its own bandwidth and this machine's processor does not."""
    models.device.set_link(None)
    times, given, proofs_us = [], 0, 0
    with models.tierd(1.1) as daemon:
        for file in models.files:
            daemon.preload(file)
        engines = [gpu.Engine(models.device, file, daemon) for file in models.files]
        for turn in range(RUNS):
            idle, other = engines[turn % 2], engines[(turn + 1) % 2]
            idle.ask(0, models.layers)
            time.sleep(0.6)
            times.append(seconds_until_lease_falls(daemon, idle, other) * 1000)
        for engine in engines:
            engine.close()
            said = re.search(r"gave back to others (\d+) times.* (\d+) us for proofs", engine.log.read_text())
            given += int(said[1]) if said else 0
            proofs_us += int(said[2]) if said else 0
    if not given:
        raise gpu.Failed("no process says that it gave anything back")
    proof = proofs_us / given / 1000
    size = f"{models.size_bytes / MIB:.0f} MiB of a process that has been idle for 0.6 s"
    yield rows.row("reclaim_idle_ms", "ms", times, note=f"{size}: from another's request until tierd has them back; goal: at most 100; the "
                   f"hash that proves them unwritten runs on the processor here and takes {proof:.0f} ms of it")
    yield rows.row("reclaim_idle_besides_proof_ms", "ms", [t - proof for t in times],
                   note="the same without that: an order, the driver's unmapping chunk by chunk, and the answer")


def bytes_moved(models, name, note, **options):
    """The share of the weights that went over the link for a request that needs a tenth of the layers."""
    models.device.set_link(None)
    shares = []
    with models.tierd(1.2) as daemon:
        daemon.preload(models.files[0])
        for _ in range(2):
            engine = gpu.Engine(models.device, models.files[0], daemon, **options)
            engine.ask(0, models.layers // 10)
            shares.append(engine.close() / models.size_bytes)
    return rows.row(name, "share_of_the_weights", shares, "a plain process, which loads all", [1.0] * len(shares), note)


def all_rows(build, folder):
    device = gpu.Device(build, folder, simulated=True, memory_bytes=2 << 30)
    yield gate_ns(build)
    yield gate_instructions(build, folder)
    small, large = Models(device, folder, 20, 1024), Models(device, folder, 20, 2048)
    yield switch_vs_bound(small)
    yield deferred_load_vs_plain(large)
    yield from reclaim_idle(Models(device, folder, 16, 2048))
    yield bytes_moved(large, "bytes_moved_share_10pct", "2 of 20 layers of 16 MiB, in segments of 20 MiB that tensors share, as PyTorch makes them")
    yield bytes_moved(large, "bytes_moved_share_10pct_a_tensor_an_allocation", "the same layers, an allocation a tensor", program="mini_driver",
                      options=("--ptx", build / "simcuda" / "mini_kernels.ptx"))


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=pathlib.Path, default=machine.ROOT / "build")
    options.add_argument("--out", type=pathlib.Path, default=machine.ROOT / "build" / "bench")
    options.add_argument("--record", action="store_true", help="keep the results under docs/results")
    options = options.parse_args()
    build = options.build.resolve()
    if not (build / "simcuda" / "mini_infer").exists():
        print("skipped: the build has no CUDA half: no toolkit was found when it was configured")
        return 77
    versions = machine.versions(build / "bin", sys.executable) | {"valgrind": machine.first_line(["valgrind", "--version"])}
    begin, results = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="tierd-bench-cuda-") as folder:
        try:
            for row in all_rows(build, pathlib.Path(folder)):
                results.append(row)
                print(f"{time.monotonic() - begin:.0f} s: {row['name']}", file=sys.stderr, flush=True)
        except (gpu.Failed, OSError, subprocess.CalledProcessError) as trouble:
            print(trouble, file=sys.stderr)
            return 1
    facts = {"commit": machine.commit(), "machine": machine.describe(build), "versions": versions}
    rows.publish("cuda", facts, results, options.out, machine.RESULTS if options.record else None, "GPUs", ", on the simulated GPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
