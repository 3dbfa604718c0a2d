"""Measures policies: what their calls cost, and how they do on synthetic traces: policy.py [--build DIR] [--out DIR] [--record].

Writes OUT/policy.json; with --record also docs/results/policy.json and policy.md. Needs the right to load BPF, and nothing
else: the traces are made in seconds, and played on a modelled machine. Exit status: 0; 1 when something could not be run.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import machine
import rows

POLICIES = ["fifo", "lru", "sweep", "experts", "hotness", "admission", "fair"]
TRACES = ["dense", "moe", "mixed"]
SIZES = {"1k": 1 << 10, "32k": 32 << 10, "1M": 1 << 20}


def cost_rows(times):
    result = [rows.row(f"sweep_ns_per_extent_{name}", "ns", times["sweep"][str(size)]["runs"],
                       note="processor time of an epoch of hotness; every extent in memory") for name, size in SIZES.items()]
    result.append(rows.row("metadata_bytes_per_extent", "bytes", [times["metadata_bytes"]], note="row and mark"))
    result.append(rows.row("call_ns", "ns", times["call_ns"], note="a fault's call of fifo, from C++ and back"))
    result.append(rows.row("load_to_first_decision_ms", "ms", times["load_ms"], note="hotness: read, check, verify twice, one epoch"))
    return result


def replay(build, trace):
    command = [build / "bin" / "tierctl", "policy", "test", build / "traces" / f"{trace}.trace", "--no-chart", "--json"]
    for policy in [*POLICIES, "builtin:auto"]:
        command += ["--policy", policy]
    return json.loads(subprocess.check_output(command))["results"]


def hit_rows(trace, results):
    lru, optimum = (next(r for r in results if r["policy"] == name) for name in ("LRU", "optimum"))
    for r in results:
        if r is optimum:
            continue
        name = {"LRU": "lru_of_all_touches", "builtin:auto": "auto"}.get(r["policy"], r["policy"])
        note = (f"memory is half of the weights; lru of all touches {lru['hit_ratio']:.4f}; found in memory {r['found_ratio']:.4f}; "
                f"read {r['bytes_read'] / 2**30:.1f} GiB; stalled {r['stall_ns'] / 1e9:.1f} s")
        yield rows.row(f"hit_{name}_{trace}_vs_optimum", "touches_without_a_read", [r["hit_ratio"]], "clairvoyant optimum",
                       [optimum["hit_ratio"]], note)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=pathlib.Path, default=machine.ROOT / "build")
    options.add_argument("--out", type=pathlib.Path, default=machine.ROOT / "build" / "bench")
    options.add_argument("--record", action="store_true", help="keep the results under docs/results")
    options = options.parse_args()
    build = options.build.resolve()
    facts = {"commit": machine.commit(), "machine": machine.describe(build), "versions": machine.versions(build / "bin", sys.executable)}
    try:
        times = json.loads(subprocess.check_output([build / "bin" / "policy_times", build / "policies"]))
        results = cost_rows(times) + [row for trace in TRACES for row in hit_rows(trace, replay(build, trace))]
    except (OSError, subprocess.CalledProcessError) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    rows.publish("policy", facts, results, options.out, machine.RESULTS if options.record else None, "Policies")
    return 0


if __name__ == "__main__":
    sys.exit(main())
