"""A device that the mini engine runs on, a real one or the simulated one (tests/simcuda), and the engine's processes on it.

The device is made as small as wanted by taking the rest of it away (`Device.leave`): so what is tried on the simulated device is
what runs on a real one. Nothing here changes a setting of the device.
"""

import ctypes
import json
import os
import pathlib
import re
import select
import subprocess
import sys
import time

from daemon import Tierd

MIB = 1 << 20
SEGMENT = 20 * MIB  # what the mini engine allocates at once
CHUNK = 2 * MIB
OUT_OF_MEMORY = 2  # the mini engine's exit status when an allocation is refused
CUDA_ERROR_OUT_OF_MEMORY = 2
PATIENCE_S = 120   # for one answer of one process
EXCLUSIVE_PROCESS = 3  # CU_COMPUTEMODE_EXCLUSIVE_PROCESS
COMPUTE_MODE = 20      # CU_DEVICE_ATTRIBUTE_COMPUTE_MODE
LOOK = "import ctypes; n = ctypes.c_int(); c = ctypes.CDLL('libcuda.so.1'); raise SystemExit(c.cuInit(0) or c.cuDeviceGetCount(ctypes.byref(n)) or n.value == 0)"


class Failed(Exception):
    """What must hold did not, or a process failed; the text is for people."""


class OutOfMemory(Exception):
    """The engine was refused memory of the GPU."""


def library_path():
    """The caller's, without folders of simulated drivers: in containers the real one is often found by it alone."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return ":".join(folder for folder in folders if folder and "simcuda" not in folder)


def has_real_device():
    """Asked in a process of its own, so that this one can still load the simulated driver."""
    clean = dict(os.environ) | {"LD_LIBRARY_PATH": library_path()}
    return subprocess.run([sys.executable, "-c", LOOK], env=clean, capture_output=True).returncode == 0


class Device:
    """One a process. Keeps a context of its own on the GPU, to see how much of it is taken."""

    def __init__(self, build, folder, simulated, memory_bytes=1 << 30, link_bytes_per_s=None, context_bytes=0):
        self.build, self.folder, self.simulated = build, folder, simulated
        self.settings, self.numbers, self.ballast = {}, 0, []
        if simulated:
            file = folder / "device"
            file.unlink(missing_ok=True)
            kernels = [build / "simcuda" / "mini_kernels.so", build / "tests" / "tierd_hash_kernel.so"]
            self.settings = {"LD_LIBRARY_PATH": str(build / "simcuda"), "SIMCUDA_MEMORY": str(memory_bytes),
                             "SIMCUDA_GPU": str(file), "SIMCUDA_CONTEXT_BYTES": str(context_bytes),
                             "SIMCUDA_KERNELS": ":".join(str(k) for k in kernels)}
            self.set_link(link_bytes_per_s)
            os.environ.update({k: v for k, v in self.settings.items() if k.startswith("SIMCUDA_")})
        else:
            cudart = (build / "simcuda" / "cudart.folder").read_text().strip()
            self.settings = {"LD_LIBRARY_PATH": ":".join(filter(None, (library_path(), cudart)))}
        self.driver = ctypes.CDLL(str(build / "simcuda" / "libcuda.so.1") if simulated else "libcuda.so.1")
        context = ctypes.c_void_p()
        self.call("cuInit", 0)
        self.check_usable()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.call("cuCtxPushCurrent_v2", context)
        self.idle_bytes = self.taken_bytes()

    def set_link(self, bytes_per_s):
        """The simulated GPU's modelled link, for processes that start from now on; None: as fast as memory."""
        self.settings["SIMCUDA_COPY_BYTES_PER_S"] = str(bytes_per_s or 0)

    def call(self, function, *arguments):
        if error := getattr(self.driver, function)(*arguments):
            raise Failed(f"{function}: CUDA error {error}")

    def check_usable(self):
        """What would make every program fail later, and in words that tell less."""
        number = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(number))
        if number.value < 13000:
            raise Failed(f"the driver is for CUDA {self.driver_version()}, and the mini engine's runtime wants 13.0: install a driver of "
                         "release 580 or newer")
        self.call("cuDeviceGetAttribute", ctypes.byref(number), COMPUTE_MODE, 0)
        if number.value == EXCLUSIVE_PROCESS:
            raise Failed("the GPU is for one process at a time: nvidia-smi -c DEFAULT lets several use it")

    def name(self):
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, 256, 0)
        return text.value.decode() + (" (tests/simcuda)" if self.simulated else "")

    def driver_version(self):
        number = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def memory(self):
        """(free, total) bytes"""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def taken_bytes(self):
        free, total = self.memory()
        return total - free

    def held_bytes(self):
        """What others than this process have of the GPU, contexts included."""
        return max(0, self.taken_bytes() - self.idle_bytes)

    def leave(self, free_bytes):
        """Takes memory of the GPU until no more than so much is free. Where others have more already, that is said."""
        free, _ = self.memory()
        if free < free_bytes:
            raise Failed(f"{free // MIB} MiB of the GPU are free, {free_bytes // MIB} are needed: others use it")
        step, address = free - free_bytes, ctypes.c_uint64()
        if step:
            self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(step))
            self.ballast.append(address)
        self.idle_bytes = self.taken_bytes()

    def give_back(self):
        while self.ballast:
            self.call("cuMemFree_v2", self.ballast.pop())
        self.idle_bytes = self.taken_bytes()

    def copy_seconds(self, size_bytes, runs):
        """Of plain copies from pinned memory to the GPU, one by one."""
        source, target, seconds = ctypes.c_void_p(), ctypes.c_uint64(), []
        self.call("cuMemHostAlloc", ctypes.byref(source), ctypes.c_size_t(size_bytes), 0)
        ctypes.memset(source, 1, size_bytes)
        self.call("cuMemAlloc_v2", ctypes.byref(target), ctypes.c_size_t(size_bytes))
        for _ in range(runs):
            begin = time.monotonic()
            self.call("cuMemcpyHtoD_v2", target, source, ctypes.c_size_t(size_bytes))
            seconds.append(time.monotonic() - begin)
        self.call("cuMemFree_v2", target)
        self.call("cuMemFreeHost", source)
        return seconds

    def environment(self):
        """For a process on this GPU, and where its counters will be found (simulated GPU only)."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIERD_", "SIMCUDA_"))}
        self.numbers += 1
        stats = self.folder / f"stats-{os.getpid()}-{self.numbers}.json"
        if self.simulated:
            kept["SIMCUDA_STATS"] = str(stats)
        return kept | self.settings, stats


def tierd(device, folder, capacity_bytes, models):
    """A daemon that leases out so much of the GPU, and has room for these files in the machine's memory."""
    config = folder / "tierd.toml"
    config.write_text(f'[gpu]\ncapacity = "{capacity_bytes // MIB}MiB"\nslice_ms = 100\n')
    budget_bytes = sum(model.stat().st_size for model in models) * 5 // 4 + 64 * MIB
    return Tierd(device.build / "bin", None, budget_bytes, folder / "state", ["--config", config])


def make_model(device, path, layers, width):
    """The mini engine's weights, (layers x width x width + ...) x 4 bytes."""
    environment, _ = device.environment()
    program = device.build / "simcuda" / "mini_infer"
    subprocess.run([program, path, "--make-layers", str(layers), "--make-width", str(width), "--reference", "--repeat", "0"],
                   env=environment, check=True)
    return path


def reference(device, model, request):
    """The checksum that the processor computes for these layers [first, last)."""
    environment, _ = device.environment()
    command = [device.build / "simcuda" / "mini_infer", model, "--reference", "--serve"]
    said = subprocess.run(command, input=f"{request[0]} {request[1]} 1\n", env=environment, check=True, text=True,
                          capture_output=True)
    return said.stdout.split()[1]


class Engine:
    """One process of the mini engine with one model, which answers requests. Under `daemon`, or plain.

    `loaded_s`: from its start until its load calls had returned; `load_calls_s`: the load calls alone.
    """

    def __init__(self, device, model, daemon=None, options=(), variables=None, program="mini_infer"):
        environment, self.stats = device.environment()
        command = [device.build / "simcuda" / program, model, "--serve", *options]
        self.log = device.folder / f"{self.stats.stem}.log"
        if daemon:
            environment |= {"LD_PRELOAD": str(device.build / "lib" / "libtierd_shim.so"), "TIERD_LOG": "info",
                            "TIERD_SOCKET": str(daemon.session)}
        begin = time.monotonic()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([str(word) for word in command], env=environment | (variables or {}),
                                            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        try:
            self.load_calls_s = int(self.line().split()[-1]) / 1e9
        except BaseException:
            self.kill()
            raise
        self.begin, self.loaded_s = begin, time.monotonic() - begin

    def line(self):
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if ready else None
        if line:
            return line
        if line is None:
            raise Failed(f"the mini engine said nothing for {PATIENCE_S} s; its log: {self.log.read_text()}")
        status = self.process.wait(PATIENCE_S)
        if status == OUT_OF_MEMORY:
            raise OutOfMemory
        raise Failed(f"the mini engine ended with status {status}; its log: {self.log.read_text()}")

    def ask(self, first, last, token=1):
        """Runs layers [first, last). Returns (seconds, checksum)."""
        begin = time.monotonic()
        self.process.stdin.write(f"{first} {last} {token}\n")
        self.process.stdin.flush()
        checksum = self.line().split()[1]
        return time.monotonic() - begin, checksum

    def close(self):
        """Ends it; returns the bytes that went over the link to the GPU for it, None where that is not known."""
        self.process.stdin.close()
        if status := self.process.wait(PATIENCE_S):
            raise Failed(f"the mini engine ended with status {status}; its log: {self.log.read_text()}")
        self.process.stdout.close()
        return self.bytes_to_device()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def bytes_to_device(self):
        """Of the simulated GPU's own counters; on a real one what the preloaded library says that it copied."""
        if self.stats.exists():
            return json.loads(self.stats.read_text())["bytes_to_device"]
        said = re.search(r"\((\d+) bytes of files, (\d+) saved\)", self.log.read_text())
        return int(said[1]) + int(said[2]) if said else None


def context_bytes(device, folder):
    """What a process of the engine takes of the GPU besides its allocations."""
    model = make_model(device, folder / "small.safetensors", 1, 64)
    engine = Engine(device, model)
    held_bytes = device.held_bytes()
    engine.close()
    model.unlink()
    return max(0, held_bytes - SEGMENT)
