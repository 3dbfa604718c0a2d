"""Everything fits: what serving from tierd's memory costs or gains, beside a warm page cache."""

import pathlib
import statistics

import machine
import rows
from context import GIB, HERE, Failed, cgroup, next_record, release

LLAMA = HERE / "engines" / "llama.py"
LOADER = HERE / "engines" / "loader.py"
PAGES = {"": "thp", "_hugetlb": "hugetlb", "_4k": "off"}


class Resident:
    def __init__(self, bench):
        self.bench, self.path = bench, bench.model("dense", bench.sizes.dense)
        self.bytes = self.path.stat().st_size
        self.runs, self.skipped, self.tokens, self.backing = {}, {}, None, {}

    def command(self):
        return [self.bench.python, LLAMA, "--model", self.path, "--tokens", str(self.bench.sizes.tokens), "--seconds", "60"]

    def note(self, name, record):
        self.tokens = self.tokens or record["tokens"]
        shared = min(len(self.tokens), len(record["tokens"]))
        if record["tokens"][:shared] != self.tokens[:shared]:
            raise Failed(f"{name}: other tokens than the first run")
        self.runs.setdefault(name, []).append(record)

    def kernel(self):
        self.bench.settle(self.bytes + GIB)
        machine.fill_cache(self.path)
        with cgroup(self.bytes + 4 * GIB) as group:
            self.note("mmap", self.bench.run(self.command(), group))

    def served(self, pages):
        self.bench.cold(self.path)
        self.bench.settle(self.bytes + GIB)
        with cgroup(2 * self.bytes + 4 * GIB) as group, \
                self.bench.tierd(group, self.bytes + GIB // 4, PAGES[pages]) as tierd:
            # Touched by a mapping that can't be written: what tierd loads by itself never gets hugetlb pages.
            self.bench.run(tierd.client([self.bench.python, LOADER, "touch", self.path]), group)
            self.note("tierd" + pages, self.bench.run(tierd.client(self.command()), group))
            self.backing["tierd" + pages] = tierd.models()[0]["backing"]
            self.bench.check_served(tierd.status())

    def served_hugetlb(self):
        try:
            with machine.HugePagePool(self.bytes + GIB // 4):
                self.served("_hugetlb")
            if not self.backing["tierd_hugetlb"].startswith("hugetlb"):
                self.runs.pop("tierd_hugetlb")
                self.skipped["tierd_hugetlb"] = f"tierd chose {self.backing['tierd_hugetlb']}"
        except OSError as why:
            self.skipped["tierd_hugetlb"] = str(why)

    def compare(self, name, ours, metric, value):
        if ours not in self.runs:
            return rows.skipped(name, metric, self.skipped.get(ours, "runs in the full benchmark only"))
        return rows.row(name, metric, [value(r) for r in self.runs[ours]], "kernel mmap, warm",
                        [value(r) for r in self.runs["mmap"]], self.backing.get(ours, ""))


def attach_rows(bench, path):
    """A second process, and the memory of four."""
    size, times, touched = path.stat().st_size, [], []
    loader = [bench.python, LOADER, "touch", path]
    bench.cold(path)  # it may have been made just now: what is in the page cache counts as a copy
    with cgroup(2 * size + 4 * GIB) as group, bench.tierd(group, size + GIB // 4) as tierd:
        tierd.preload(path)
        held = []
        for number in range(4):
            held.append(bench.hold(tierd.client(loader), group))
            record = next_record(held[-1])
            if number > 0:
                times.append(record["map_ms"])
                touched.append(1e3 * record["seconds"])
        copies = memory_of_all(group, path) / size
        for process in held:
            release(process)
        bench.check_served(tierd.status())
    return [rows.row("second_attach_ms", "ms", times,
                     note=f"open and mmap of {size / GIB:.2f} GiB; all pages touched after {statistics.median(touched):.0f} ms"),
            rows.row("copies_4_processes", "resident bytes / model", [copies],
                     note="proportional shares of arena and file mappings in all processes, and the page cache")]


def memory_of_all(group, path):
    """Bytes of physical memory that hold the model: each page once, however many have it mapped."""
    total = machine.cached_bytes(path)
    for pid in (group.path / "cgroup.procs").read_text().split():
        counts = False
        for line in pathlib.Path("/proc", pid, "smaps").read_text().splitlines():
            if "-" in line.split(" ", 1)[0]:
                counts = "arena" in line  # /arena-N on a tmpfs of tierd's own, or memfd:tierd-arena
            elif counts and line.startswith("Pss:"):
                total += int(line.split()[1]) << 10
    return total


def run(bench):
    work = Resident(bench)
    for number in range(bench.sizes.runs):
        bench.say(f"resident: round {number + 1} of {bench.sizes.runs}")
        work.kernel()
        work.served("")
        if bench.sizes.runs > 1:
            work.served("_4k")
        work.served_hugetlb()
    bench.cold(work.path)
    decode, prefill = lambda r: r["tokens_per_s"], lambda r: 1 / r["prefill_s"]
    found = [work.compare(f"decode{pages}_vs_mmap", "tierd" + pages, "tokens_per_s", decode) for pages in PAGES]
    found.append(work.compare("prefill_vs_mmap", "tierd", "prompts_per_s", prefill))
    return found + attach_rows(bench, bench.model("safetensors", bench.sizes.dense))
