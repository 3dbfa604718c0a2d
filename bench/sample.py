"""Access statistics beside the truth: a reader touches extents by Zipf's law, and each source of this machine ranks them.

Writes OUT/sample.json. For each source: the rank correlation after so many seconds and the part of the hottest tenth that it
found. Then, with one reader and the source paused in every other slice of time, so that neighbouring slices differ in nothing
else: the CPU time of tierd, and what the reader lost in all, in CPU time, and by waiting. Needs root for the sources that do.
Exit status: 0; 1 when a process failed.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
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
        return Tierd(self.options.build / "bin", None, (self.options.extents + 64) * (2 << 20), self.folder / "state",
                     ["--config", str(config), "--huge-pages", "thp"])

    def heat(self, tierd):
        name = urllib.parse.quote(str(self.path), safe="")
        return [extent["heat"] for extent in tierd.ask("GET", f"/v1/models/{name}/heatmap")["extents"]]

    def measure(self, source, seed):
        """How well the source ranks, and what tierd spent, in one run."""
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

    def slowdown(self, source, seed, slices, slice_s):
        """One reader, in turn with the source and with it paused; (with, without) of each pair of neighbouring slices."""
        pairs = []
        with self.tierd(source) as tierd:
            reader = Reader(tierd, self.options.build / "bin", self.path, self.extent_bytes, seed)
            time.sleep(5)  # mappings become huge, the budget of hints settles
            for number in range(slices):
                pair = {}
                for paused in ((True, False) if number % 2 else (False, True)):
                    tierd.ask("PUT", "/v1/sources", json.dumps({"paused": paused}))
                    time.sleep(0.1)  # what was asked for before is over
                    reader.report()
                    before, began = cpu_s(tierd.process.pid), time.monotonic()
                    time.sleep(slice_s)
                    pair[paused] = reader.report() | {"tierd": (cpu_s(tierd.process.pid) - before) / (time.monotonic() - began)}
                pairs.append((pair[False], pair[True]))
            reader.close()
        return pairs


def interval(values, times=2000):
    """Median, and the middle 95 % of the medians of resamples."""
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(times))
    return statistics.median(values), medians[times // 40], medians[-times // 40 - 1]


def cost_row(name, metric, values, note):
    middle, low, high = interval(values)
    return {"name": name, "metric": metric, "ours": round(middle, 4), "runs": len(values), "spread": round(high - low, 4),
            "interval_95": [round(low, 4), round(high, 4)], "note": note}


def rows_of(name, runs, pairs, extent_bytes):
    correlation = [spearman(r["heat"], r["truth"]) for r in runs]
    found = [top_found(r["heat"], r["truth"]) for r in runs]
    last = runs[-1]
    work = f"{len(last['truth'])} extents of {extent_bytes >> 10} KiB, {last['reads_per_s']:.0f} reads/s, {last['hints_per_s']:.0f} hints/s"
    per_read = lambda r, what: r[what] / r["reads"]
    blocked = lambda r: max(0.0, r["seconds"] - r["ran_s"] - r["queued_s"])
    faults = [a["faults"] / a["seconds"] for a, _ in pairs]
    waits = [blocked(a) / a["faults"] * 1e6 for a, _ in pairs if a["faults"]]
    facts = f"{statistics.median(faults):.0f} faults/s, each {statistics.median(waits):.0f} us off the processor" if waits else "no faults"
    queued = statistics.median(r["queued_s"] / r["seconds"] for pair in pairs for r in pair)
    return [rows.row(f"{name}_spearman", "rank correlation", correlation, note=f"goal: 0.9; {work}"),
            rows.row(f"{name}_top_decile_found", "share", found, note="goal: 0.9"),
            cost_row(f"{name}_cpu_share", "of one core", [a["tierd"] - b["tierd"] for a, b in pairs],
                     "above that of tierd with the source paused; goal: 0.01"),
            cost_row(f"{name}_reader_slowdown", "share", [per_read(a, "seconds") / per_read(b, "seconds") - 1 for a, b in pairs],
                     f"wall clock, against the source paused, slice by slice; goal: 0.03; the reader queued for a processor {queued:.1%} of the time"),
            cost_row(f"{name}_reader_cpu", "share", [per_read(a, "ran_s") / per_read(b, "ran_s") - 1 for a, b in pairs],
                     "CPU time of the reader per read, user and kernel"),
            cost_row(f"{name}_reader_blocked", "share of time", [blocked(a) / a["seconds"] - blocked(b) / b["seconds"] for a, b in pairs],
                     f"neither running nor queued: waiting for tierd; {facts}")]


def offers(options):
    with tempfile.TemporaryDirectory(prefix="tierd-sample-", dir=options.build) as folder:
        with Run(options, pathlib.Path(folder), 2 << 20).tierd("off") as tierd:
            return {s["name"]: s for s in tierd.ask("GET", "/v1/sources")["sources"]}


def measure(options, source, extent_bytes):
    """Accuracy in whole runs, cost in slices of others."""
    runs, pairs = [], []
    with tempfile.TemporaryDirectory(prefix="tierd-sample-", dir=options.build) as folder:
        run = Run(options, pathlib.Path(folder), extent_bytes)
        for number in range(options.runs):
            print(f"sample: {source}, {extent_bytes >> 10} KiB, round {number + 1} of {options.runs}", file=sys.stderr, flush=True)
            runs.append(run.measure(source, 1000 + number))
            pairs += run.slowdown(source, 2000 + number, options.slices, options.slice_seconds)
    return runs, pairs


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=pathlib.Path, default=machine.ROOT / "build")
    options.add_argument("--out", type=pathlib.Path, default=machine.ROOT / "build" / "bench")
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--runs", type=int, default=2)
    options.add_argument("--extents", type=int, default=128)
    options.add_argument("--slices", type=int, default=20, help="pairs of slices in each run")
    options.add_argument("--slice-seconds", type=float, default=0.6)
    options.add_argument("--only", choices=["small", "huge"], help="extents of one kind; the rows of the other are kept as they are in OUT/sample.json")
    options = options.parse_args()
    options.build = options.build.resolve()
    results, offered = [], offers(options)
    for name in SOURCES:
        if not offered[name]["available"]:
            results += [rows.skipped(f"{name}_{what}", "", offered[name]["unavailable_reason"])
                        for what in ("spearman", "top_decile_found", "cpu_share", "reader_slowdown")]
            continue
        for kind, prefix, extent_bytes in (("small", name, SLICE), ("huge", f"{name}_huge", 2 << 20)):
            if options.only in (None, kind):
                results += rows_of(prefix, *measure(options, name, extent_bytes), extent_bytes)
    facts = {"commit": machine.commit(), "machine": machine.describe(options.build),
             "versions": {"tierd": machine.first_line([str(options.build / "bin" / "tierd"), "--version"])}}
    path = options.out / "sample.json"
    if options.only and path.exists():
        measured = {r["name"] for r in results}
        results += [r for r in json.loads(path.read_text())["results"] if r["name"] not in measured]
    rows.write(path, "sample", facts, results)
    print(rows.table(results))


if __name__ == "__main__":
    main()
