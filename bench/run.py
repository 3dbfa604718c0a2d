"""Runs the benchmarks and writes their rows: run.py load|resident|past_ram|quick|all [--build DIR] [--out DIR].

Writes OUT/NAME.json and OUT/NAME.svg; `all` also docs/results/bench.md. `quick` runs everything on models of 512 MiB, once.
Needs root (memory cgroups), and space for the models: 20 GiB, 2 GiB for quick. Exit status: 0; 1 when a run said other
tokens than it should, a budget was exceeded, or a process failed.
"""

import argparse
import dataclasses
import pathlib
import sys
import time

import load
import machine
import past_ram
import plot
import resident
import rows
from context import FULL, QUICK, Bench, Failed

PARTS = {"load": load.run, "resident": resident.run, "past_ram": past_ram.run}


def publish(bench, name, facts, results):
    rows.write(bench.out / f"{name}.json", name, facts, results)
    (bench.out / f"{name}.svg").write_text(plot.svg(results, name))
    print(f"\n## {name}\n\n{rows.table(results)}\n", flush=True)


def run_all(bench, facts, names):
    sections = []
    for name in names:
        results = PARTS[name](bench)
        publish(bench, name, facts, results)
        sections.append(f"## {name}\n\n{rows.table(results)}\n")
    return sections


def write_report(facts, sections):
    lines = [f"- {key}: {value}" for key, value in {**facts["machine"], **facts["versions"]}.items()]
    text = [f"# Benchmark results\n\nMeasured at commit {facts['commit']} by `make bench`.\n", "\n".join(lines) + "\n", *sections]
    path = machine.ROOT / "docs" / "results" / "bench.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text))
    print(f"written: {path.relative_to(machine.ROOT)}")


def sizes_of(options):
    given = {}
    if options.runs:
        given["runs"] = options.runs
    if options.seconds:
        given["seconds"] = options.seconds
    if options.ratios:
        given["ratios"] = tuple(float(ratio) if "." in ratio else int(ratio) for ratio in options.ratios.split(","))
    if options.wait_policies:
        given["wait_policies"] = tuple(options.wait_policies.split(","))
    return dataclasses.replace(QUICK if options.what == "quick" else FULL, **given)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("what", choices=[*PARTS, "quick", "all"])
    options.add_argument("--build", type=pathlib.Path, default=machine.ROOT / "build", help="where tierd was built")
    options.add_argument("--out", type=pathlib.Path, default=machine.ROOT / "build" / "bench")
    options.add_argument("--python", type=pathlib.Path, default=machine.ROOT / "build" / "venv-bench" / "bin" / "python")
    options.add_argument("--runs", type=int, help="paired runs of a row")
    options.add_argument("--seconds", type=float, help="most that a past-RAM run takes from its first token on")
    options.add_argument("--ratios", help="model / memory, as 1.33,1.5,2")
    options.add_argument("--wait-policies", help="OMP_WAIT_POLICY of all contenders, as passive,active")
    options = options.parse_args()
    begin = time.monotonic()
    bench = Bench(options.build.resolve(), options.out.resolve(), sizes_of(options), options.python)
    facts = bench.facts()
    try:
        if options.what == "quick":
            publish(bench, "quick", facts, [row for part in PARTS.values() for row in part(bench)])
        elif options.what == "all":
            write_report(facts, run_all(bench, facts, PARTS))
        else:
            run_all(bench, facts, [options.what])
    except Failed as failure:
        sys.exit(f"bench: {failure}")
    print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
