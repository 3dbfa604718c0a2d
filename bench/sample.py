"""Access statistics beside the truth: a reader touches extents by Zipf's law, and each source of this machine ranks them.

Writes OUT/sample.json. For each source, in turn with a tierd that samples nothing: the rank correlation after so many
seconds, the part of the hottest tenth that it found, the CPU time of tierd, and what the reader lost. Needs root for the
sources that do. Exit status: 0; 1 when a process failed.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.parse

import machine
import rows
from daemon import Tierd

SLICE = 256 << 10  # of an expert, about
SOURCES = ("pebs", "ibs", "hint", "damon", "idle", "spe")


class NoCgroup:
    def enter(self):
        pass


class Reader:
    """The reader under one tierd, from the moment when all of its file is in memory."""

    def __init__(self, tierd, programs, path, extent_bytes, seed):
        command = tierd.client([programs / "zipf_reader", path, str(extent_bytes), str(seed)])
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=os.environ | {"TIERD_MATCH": "*.bin"})
        self.next()

    def next(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"bench: the reader ended with status {self.process.wait()}")
        return json.loads(line)

    def report(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.next()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def cpu_s(pid):
    """CPU time of all threads, exactly: /proc/PID/stat counts ticks."""
    return sum(int(task.joinpath("schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1e9


def ranks_of(values):
    """Average ranks, the greatest value first."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    ranks, i = [0.0] * len(values), 0
    while i < len(order):
        j = i
        while j < len(order) and values[order[j]] == values[order[i]]:
            j += 1
        for k in order[i:j]:
            ranks[k] = (i + j - 1) / 2
        i = j
    return ranks


def spearman(heat, truth):
    found, middle = ranks_of(heat), (len(truth) - 1) / 2
    product = sum((a - middle) * (b - middle) for a, b in zip(found, truth))
    return product / (sum((a - middle) ** 2 for a in found) * sum((b - middle) ** 2 for b in truth)) ** 0.5 if product else 0.0


def top_found(heat, truth):
    tenth = len(truth) // 10
    hottest = sorted(range(len(heat)), key=lambda i: -heat[i])[:tenth]
    return sum(truth[i] < tenth for i in hottest) / tenth


class Run:
    def __init__(self, options, folder, extent_bytes):
        self.options, self.folder, self.extent_bytes = options, folder, extent_bytes
        self.path = folder / "weights.bin"
        with open(self.path, "wb") as out:  # no header: plain extents; a hole, since what it holds is not the question
            out.truncate(options.extents * extent_bytes)

    def tierd(self, source):
        config = self.folder / f"{source}.toml"
        config.write_text(f'[sample]\nsource = "{source}"\n[memory]\nextent = "{self.extent_bytes >> 10}KiB"\n')
        return Tierd(self.options.build / "bin", NoCgroup(), (self.options.extents + 64) * (2 << 20), self.folder / "state",
                     ["--config", str(config), "--huge-pages", "thp"])

    def heat(self, tierd):
        name = urllib.parse.quote(str(self.path), safe="")
        return [extent["heat"] for extent in tierd.ask("GET", f"/v1/models/{name}/heatmap")["extents"]]

    def measure(self, source, seed):
        with self.tierd(source) as tierd:
            reader = Reader(tierd, self.options.build / "bin", self.path, self.extent_bytes, seed)
            time.sleep(2)  # mappings become huge meanwhile
            reader.report()
            before, hints = cpu_s(tierd.process.pid), tierd.status()["counters"]["hints"]
            time.sleep(self.options.seconds)
            spent = (cpu_s(tierd.process.pid) - before) / self.options.seconds
            heat = self.heat(tierd)
            hints = (tierd.status()["counters"]["hints"] - hints) / self.options.seconds
            report = reader.report()
            reader.close()
        return {"heat": heat, "truth": report["ranks"], "reads_per_s": report["reads"] / report["seconds"], "cpu": spent, "hints_per_s": hints}


def rows_of(name, with_it, without, extent_bytes):
    correlation = [spearman(r["heat"], r["truth"]) for r in with_it]
    found = [top_found(r["heat"], r["truth"]) for r in with_it]
    share = [a["cpu"] - b["cpu"] for a, b in zip(with_it, without)]
    slower = [b["reads_per_s"] / a["reads_per_s"] - 1 for a, b in zip(with_it, without)]
    last = with_it[-1]
    work = f"{len(last['truth'])} extents of {extent_bytes >> 10} KiB, {last['reads_per_s']:.0f} reads/s, {last['hints_per_s']:.0f} hints/s"
    return [rows.row(f"{name}_spearman", "rank correlation", correlation, note=f"goal: 0.9; {work}"),
            rows.row(f"{name}_top_decile_found", "share", found, note="goal: 0.9"),
            rows.row(f"{name}_cpu_share", "of one core", share, note="above that of a tierd without sampling; goal: 0.01"),
            rows.row(f"{name}_reader_slowdown", "share", slower, note="against no sampling, interleaved; goal: 0.03")]


def offers(options):
    with tempfile.TemporaryDirectory(prefix="tierd-sample-", dir=options.build) as folder:
        with Run(options, pathlib.Path(folder), 2 << 20).tierd("off") as tierd:
            return {s["name"]: s for s in tierd.ask("GET", "/v1/sources")["sources"]}


def compare(options, source, extent_bytes):
    """Runs with the source and without any, in turn, on extents of one size."""
    with_it, without = [], []
    with tempfile.TemporaryDirectory(prefix="tierd-sample-", dir=options.build) as folder:
        run = Run(options, pathlib.Path(folder), extent_bytes)
        for number in range(options.runs):
            print(f"sample: {source}, {extent_bytes >> 10} KiB, round {number + 1} of {options.runs}", file=sys.stderr, flush=True)
            for which in ([source, "off"] if number % 2 == 0 else ["off", source]):
                (without if which == "off" else with_it).append(run.measure(which, 1000 + number))
    return with_it, without


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=pathlib.Path, default=machine.ROOT / "build")
    options.add_argument("--out", type=pathlib.Path, default=machine.ROOT / "build" / "bench")
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--runs", type=int, default=2)
    options.add_argument("--extents", type=int, default=128)
    options.add_argument("--huge", action=argparse.BooleanOptionalAction, default=True, help="extents of a huge page too")
    options = options.parse_args()
    options.build = options.build.resolve()
    results, offered = [], offers(options)
    for name in SOURCES:
        if not offered[name]["available"]:
            results += [rows.skipped(f"{name}_{what}", "", offered[name]["why_not"])
                        for what in ("spearman", "top_decile_found", "cpu_share", "reader_slowdown")]
            continue
        results += rows_of(name, *compare(options, name, SLICE), SLICE)
        if options.huge:
            results += rows_of(f"{name}_huge", *compare(options, name, 2 << 20), 2 << 20)
    facts = {"commit": machine.commit(), "machine": machine.describe(options.build),
             "versions": {"tierd": machine.first_line([str(options.build / "bin" / "tierd"), "--version"])}}
    rows.write(options.out / "sample.json", "sample", facts, results)
    print(rows.table(results))


if __name__ == "__main__":
    main()
