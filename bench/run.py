"""Runs the benchmarks and writes their rows: run.py load|resident|past_ram|quick|short|all|report [--build DIR] [--out DIR].

Writes OUT/NAME.json and OUT/NAME.svg. `short` and `all` run load, resident and past_ram and end as `report` does, which writes
docs/results/bench.md from OUT/{load,resident,past_ram}.json, whenever they were measured. `short` takes half an hour: one
past-RAM run a row, of 20 s. `quick` runs everything on models of 512 MiB, once. Needs root (memory cgroups), and space for the
models: 24 GiB, 3 GiB for quick. Exit status: 0; 1 when a run said other tokens than it should, a budget was exceeded,
or a process failed.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time

import goals
import load
import machine
import past_ram
import plot
import resident
import rows
from context import FULL, QUICK, SHORT, Bench, Failed

PARTS = {"load": load.run, "resident": resident.run, "past_ram": past_ram.run}
REPORT = machine.ROOT / "docs" / "results" / "bench.md"


def measure(bench, name, parts):
    """The rows of the parts, into OUT/name.json, with what a reader needs to do it again."""
    begin, facts = time.monotonic(), bench.facts()
    results = [row for part in parts for row in PARTS[part](bench)]
    facts |= {"date": time.strftime("%Y-%m-%d"), "command": " ".join(["run.py", *sys.argv[1:]]),
              "seconds": round(time.monotonic() - begin), "sizes": dataclasses.asdict(bench.sizes)}
    rows.write(bench.out / f"{name}.json", name, facts, results)
    (bench.out / f"{name}.svg").write_text(plot.svg(results, name))
    print(f"\n## {name}\n\n{rows.table(results)}\n\n{facts['seconds']} s\n", flush=True)


def section(record):
    sizes = record["sizes"]
    how = (f"{record['date']}, commit {record['commit']}, `{record['command']}`, {record['seconds']} s. Models: safetensors {sizes['load']}, "
           f"dense {sizes['dense']}, mixture {sizes['moe']}.")
    return f"## {record['bench']}\n\n{how}\n\n{rows.table(record['results'])}\n"


def write_report(out):
    """The whole of docs/results/bench.md."""
    paths = [out / f"{name}.json" for name in PARTS]
    records = [json.loads(path.read_text()) for path in paths if path.exists()]
    if not records:
        sys.exit(f"bench: no results in {out}; run load, resident or past_ram first")
    last = records[-1]
    facts = [f"- {key}: {value}" for key, value in {**last["machine"], **last["versions"]}.items()]
    text = ["# Benchmark results\n",
            "By `bench/run.py report`, from the runs that each section names. `make bench-short` measures all of it in half an hour, `make "
            "bench` in hours, `make bench-quick` small models in minutes. All contenders run in a memory cgroup of the same limit. "
            "Where a row has a peer, `ratio` is the median of paired, interleaved runs. Runs on this machine differ by 20 %, and its disk "
            "by more from hour to hour: a single row is no more than an indication.\n",
            "\n".join(facts) + "\n", "## Against the goals\n",
            goals.table([row for record in records for row in record["results"]]) + "\n", *[section(record) for record in records]]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(text))
    print(f"written: {REPORT.relative_to(machine.ROOT)}")


def sizes_of(options):
    given = {}
    for name in ("runs", "past_ram_runs", "seconds"):
        if getattr(options, name):
            given[name] = getattr(options, name)
    if options.ratios:
        given["ratios"] = tuple(float(ratio) if "." in ratio else int(ratio) for ratio in options.ratios.split(","))
    if options.wait_policies:
        given["wait_policies"] = tuple(options.wait_policies.split(","))
    return dataclasses.replace({"quick": QUICK, "short": SHORT}.get(options.what, FULL), **given)


def arguments():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("what", choices=[*PARTS, "quick", "short", "all", "report"])
    options.add_argument("--build", type=pathlib.Path, default=machine.ROOT / "build", help="where tierd was built")
    options.add_argument("--out", type=pathlib.Path, default=machine.ROOT / "build" / "bench")
    options.add_argument("--python", type=pathlib.Path, default=machine.ROOT / "build" / "venv-bench" / "bin" / "python")
    options.add_argument("--runs", type=int, help="paired runs of a row of load and resident")
    options.add_argument("--past-ram-runs", type=int, help="paired runs of a row of past_ram")
    options.add_argument("--seconds", type=float, help="most that a past-RAM run takes from its first token on")
    options.add_argument("--ratios", help="model / memory, as 1.33,1.5,2")
    options.add_argument("--wait-policies", help="OMP_WAIT_POLICY of all contenders, as passive,active")
    return options.parse_args()


def main():
    options = arguments()
    if options.what == "report":
        return write_report(options.out)
    bench = Bench(options.build.resolve(), options.out.resolve(), sizes_of(options), options.python)
    try:
        if options.what == "quick":
            measure(bench, "quick", PARTS)
        else:
            for name in PARTS if options.what in ("short", "all") else [options.what]:
                measure(bench, name, [name])
    except Failed as failure:
        sys.exit(f"bench: {failure}")
    if options.what in ("short", "all"):
        write_report(options.out)


if __name__ == "__main__":
    main()
