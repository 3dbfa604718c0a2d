"""What all benchmarks share: where things are, how big they are, and how one process is run and heard."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import machine
from cgroup import MemoryCgroup
from daemon import Tierd

MIB = 1 << 20
GIB = 1 << 30
HERE = pathlib.Path(__file__).resolve().parent


class Failed(Exception):
    """What must hold did not, or a process failed; the text is for people."""


class CannotRun(Exception):
    """A contender that does not run on this machine, or not under this limit: its row says why."""


@dataclasses.dataclass
class Sizes:
    load: str
    dense: str
    moe: str
    runs: int          # paired runs of a row of load and resident
    past_ram_runs: int
    tokens: int        # at most, in a past-RAM run
    seconds: float     # at most, from the first token on
    ratios: tuple
    wait_policies: tuple
    modes: bool        # llama.cpp's other ways to load too
    settle: bool       # wait before each run until the machine is quiet


FULL = Sizes("2GiB", "4GiB", "6GiB", 3, 3, 48, 60, (1.33, 1.5, 2, 4), ("passive", "active"), True, True)
SHORT = dataclasses.replace(FULL, past_ram_runs=1, seconds=20, ratios=(1.33, 1.5, 2), wait_policies=("passive",))
QUICK = Sizes("512MiB", "512MiB", "512MiB", 1, 1, 24, 5, (1.33, 1.5, 2), ("passive",), False, False)


class Bench:
    def __init__(self, build, out, sizes, python):
        self.programs, self.out, self.sizes, self.python = build / "bin", out, sizes, python
        self.files = out / "models"
        self.state = out / "state"  # orders learned in one run serve the next, as they do for users
        shutil.rmtree(self.state, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def facts(self):
        return {"commit": machine.commit(), "machine": machine.describe(self.out),
                "versions": machine.versions(self.programs, self.python)}

    def model(self, kind, size, router=None):
        suffix = "safetensors" if kind == "safetensors" else "gguf"
        path = self.files / f"{kind}{'-' + router if router else ''}-{size}.{suffix}"
        if not path.exists():
            self.say(f"making {path.name}")
            command = [self.python, HERE / "models" / "make_model.py", kind, path, "--size", size]
            subprocess.run(command + (["--router", router] if router else []), check=True)
        return path

    def cold(self, path):
        machine.drop_cache(path)

    def quiet(self):
        """Waits until the machine is quiet. False where that is not asked for, or can't be told."""
        return self.sizes.settle and machine.settle()

    def warm_pool(self, size_bytes):
        """Memory that the host has given already, for the next two seconds."""
        self.quiet()
        machine.warm_pool(size_bytes)

    def settle(self, size_bytes):
        """Memory that nobody gives back meanwhile, for runs that are longer."""
        if not self.quiet():
            machine.warm_pool(size_bytes)

    def tierd(self, cgroup, budget_bytes, huge_pages="thp"):
        # Not "auto": which pages that takes depends on what others left in the machine's pool of huge pages.
        return Tierd(self.programs, cgroup, budget_bytes, self.state, ["--huge-pages", huge_pages])

    def environment(self, wait_policy):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TIERD_")}
        return kept | {"OMP_WAIT_POLICY": wait_policy}

    def run(self, command, cgroup, wait_policy="passive", timeout_s=900):
        """Runs it in the cgroup to its end; returns the JSON of its last line. CannotRun when the kernel killed it for
        memory, when it says so itself (status 3), or when it takes too long."""
        try:
            ended = subprocess.run([str(word) for word in command], env=self.environment(wait_policy),
                                   preexec_fn=cgroup.enter, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise CannotRun(f"did not end within {timeout_s} s") from None
        if cgroup.oom_kills() > 0:
            raise CannotRun("killed by the kernel: more memory than the limit")
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        if ended.returncode == 3:
            raise CannotRun(last)
        if ended.returncode != 0:
            raise Failed(f"{pathlib.Path(str(command[1])).name} ended with status {ended.returncode}: {last}")
        return json.loads(ended.stdout.splitlines()[-1])

    def hold(self, command, cgroup, wait_policy="passive"):
        """Starts a process that keeps what it loaded until its input is closed."""
        return subprocess.Popen([str(word) for word in [*command, "--hold"]], env=self.environment(wait_policy), text=True,
                                preexec_fn=cgroup.enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def check_served(self, status):
        """The budget was held, and what is measured is tierd: the engine was not sent back to the kernel's mapping."""
        if status["counters"]["bytes_read"] == 0:
            raise Failed("the engine took nothing from tierd")
        if status["counters"]["fall_backs_commanded"] > 0:
            raise Failed(f"tierd gave {status['counters']['fall_backs_commanded']} ranges back to the kernel: see its log above")
        if status["resident_peak_bytes"] > status["budget_bytes"]:
            raise Failed(f"tierd held {status['resident_peak_bytes']} bytes, more than its budget of {status['budget_bytes']}")


def cgroup(limit_bytes):
    return MemoryCgroup(limit_bytes)


def release(process):
    process.stdin.close()
    if process.wait() != 0:
        raise Failed(f"a held process ended with status {process.returncode}")


def next_record(process):
    line = process.stdout.readline()
    if not line:
        raise Failed(f"a held process ended with status {process.wait()}")
    return json.loads(line)
