"""What tiers and moves cost: migrate.py [--only guest|host]. Writes build/bench/migrate.json.

On this machine, with 2 TiB of sparse files (64 of 32 GiB, 1M extents) that one reader maps and nobody touches; once with one tier,
once (`_tiers`) with three declared ones:
  start_1M_s            from the program's start to its readiness, with a state database that holds a learned order of all extents
  register_1M_s         mapping all files: the table is filled, the learned orders are loaded
  metadata_1M_bytes     what the daemon's own memory grew by then; metadata_per_extent is the same by their number
  idle_epoch_us_1M      the engine thread's processor time over some seconds by the number of epochs in them
  tierctl_models_ms_1M  `tierctl models`, with the program's start
and
  drain_1gib_s          1 GiB from one declared tier to another at the default limit of 256 MiB/s, which alone takes 4 s: what is above
                        is the daemon's. Nothing moves between declared tiers, so this is without the kernel.
In the guest, whose processors are emulated: what is there compares with what stands beside it, not with any machine.
  migrate_vs_memcpy     pages of 2 MiB (hugetlb) from DRAM to CXL as the daemon moves them, beside memcpy of as many bytes; _thp: of
                        memory files, _4k: small ones
  kernel_move_pages_vs_memcpy   move_pages(2) alone on the same pages: what the kernel leaves to be had; _thp and _4k as above
  migrate_vs_move_pages ours beside that; _thp and _4k as above
  reader_slowdown       a reader of resident extents, by which factor it is slower while extents move at the default limit than in the
                        slice of time before, in which tierd is asked as often
  drain_1gib_guest_s    96 MiB of real pages drained from one node to another without a limit, as if they were 1 GiB
"""

import argparse

import json
import os
import pathlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

import daemon
import machine
import rows
from context import HERE

BUILD = HERE.parent / "build"
MIB, GIB = 1 << 20, 1 << 30
FILES, FILE_BYTES, EXTENT_BYTES = 64, 32 << 30, 2 << 20
EPOCH_MS, LOOK_S, LOOKS = 100, 3, 5
TIERS = """
[[tier]]
name = "near"
kind = "hbm"
capacity = "256MiB"
[[tier]]
name = "far"
kind = "cxl"
capacity = "1GiB"
"""
DRAIN_TIERS = """
[[tier]]
name = "near"
kind = "hbm"
capacity = "1032MiB"
[[tier]]
name = "far"
kind = "cxl"
capacity = "1032MiB"
"""


def engine_cpu_s(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == "tierd-engine":
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    raise RuntimeError("tierd has no thread named tierd-engine")


def own_memory_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def idle_epochs_us(tierd):
    values = []
    for _ in range(LOOKS):
        before, begun = engine_cpu_s(tierd.process.pid), time.monotonic()
        time.sleep(LOOK_S)
        spent, passed = engine_cpu_s(tierd.process.pid) - before, time.monotonic() - begun
        values.append(spent / (passed * 1000 / EPOCH_MS) * 1e6)
    return values


def tierctl_ms(tierd):
    values = []
    for _ in range(10):
        begun = time.monotonic()
        subprocess.run([BUILD / "bin" / "tierctl", "--socket", tierd.control, "models"], check=True, stdout=subprocess.DEVNULL)
        values.append((time.monotonic() - begun) * 1000)
    return values


def make_files(folder):
    files = []
    for number in range(FILES):
        files.append(folder / f"part-{number}.weights")
        files[-1].touch()
        os.truncate(files[-1], FILE_BYTES)
    return files


def learn_orders(folder, files):
    """Puts what one run of each file would have taught into the database that an earlier tierd has left: reading 2 TiB to learn
    it takes too long. The layout of a row is lib/state's; its key is lib/model's identity_key()."""
    order = b"".join(index.to_bytes(4, "little") for index in range(FILE_BYTES // EXTENT_BYTES))
    with sqlite3.connect(folder / "state" / "state.sqlite") as database:
        for path in files:
            status = path.stat()
            key = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
            database.execute("INSERT OR REPLACE INTO touch_order VALUES (?, ?, ?, ?)", (key, EXTENT_BYTES, time.time_ns(), order))
    database.close()


def start_s(folder, options):
    begun = time.monotonic()
    with daemon.Tierd(BUILD / "bin", None, 512 << 20, folder / "state", options):
        return time.monotonic() - begun


def measure(folder, config):
    (folder / "tierd.toml").write_text(config)
    files = make_files(folder)
    options = ["--config", folder / "tierd.toml"]
    results = []
    start_s(folder, options)  # makes the database
    learn_orders(folder, files)
    starts = [start_s(folder, options) for _ in range(5)]
    with daemon.Tierd(BUILD / "bin", None, 512 << 20, folder / "state", options) as tierd:
        empty_bytes = own_memory_bytes(tierd.process.pid)
        environment = os.environ | {"TIERD_SOCKET": str(tierd.session), "TIERD_MATCH": "*.weights",
                                    "LD_PRELOAD": str(BUILD / "lib" / "libtierd_shim.so")}
        reader = subprocess.Popen([BUILD / "tests" / "tierd_reader"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  env=environment, text=True)
        begun = time.monotonic()
        for path in files:
            reader.stdin.write(f"map path={path}\n")
            reader.stdin.flush()
            reader.stdout.readline()
        mapped_s = time.monotonic() - begun
        models = tierd.models()
        if not all(model["order_learned"] for model in models):
            raise RuntimeError("the orders in the database were not taken: does learn_orders() still write what lib/state reads?")
        extents = sum(model["extents"] for model in models)
        metadata = own_memory_bytes(tierd.process.pid) - empty_bytes
        results = [extents, starts, mapped_s, metadata, idle_epochs_us(tierd), tierctl_ms(tierd)]
        reader.stdin.close()
        reader.wait()
    return results


def many_extents():
    results = []
    for name, config in (("one tier", ""), ("three tiers", TIERS)):
        with tempfile.TemporaryDirectory(prefix="tierd-migrate-", dir=BUILD) as folder:
            extents, starts, mapped_s, metadata, epochs, answers = measure(pathlib.Path(folder), config)
        note = f"{name}, {extents} extents in {FILES} sparse files, nothing to do"
        suffix = "" if name == "one tier" else "_tiers"
        results += [rows.row(f"start_1M_s{suffix}", "s", starts, note=f"{name}, a state database with a learned order of {extents} extents"),
                    rows.row(f"register_1M_s{suffix}", "s", [mapped_s], note=note),
                    rows.row(f"metadata_1M_bytes{suffix}", "bytes", [metadata], note=note),
                    rows.row(f"metadata_per_extent{suffix}", "bytes", [metadata / extents], note=note, digits=1),
                    rows.row(f"idle_epoch_us_1M{suffix}", "us of a processor", epochs, note=note, digits=1),
                    rows.row(f"tierctl_models_ms_1M{suffix}", "ms", answers, note=note, digits=1)]
    return results


def drain_s(tierd):
    """Empties the tier `near` and opens it again. Returns seconds and bytes."""
    begun = time.monotonic()
    job = tierd.ask("POST", "/v1/tiers/near/drain")
    while not job["finished"]:
        time.sleep(0.002)
        job = tierd.ask("GET", f"/v1/jobs/{job['job']}")
    seconds = time.monotonic() - begun
    tierd.ask("POST", "/v1/tiers", json.dumps({"name": "near"}))
    if job["error"]:
        raise RuntimeError(f"drain: {job['error']}")
    return seconds, job["total_bytes"]


def declared_drain():
    values = []
    with tempfile.TemporaryDirectory(prefix="tierd-migrate-", dir=BUILD) as name:
        folder = pathlib.Path(name)
        (folder / "tierd.toml").write_text(DRAIN_TIERS)
        weights = folder / "model.weights"
        weights.touch()
        os.truncate(weights, GIB)
        with daemon.Tierd(BUILD / "bin", None, 64 << 20, folder / "state", ["--config", folder / "tierd.toml"]) as tierd:
            for _ in range(3):
                tierd.preload(weights)
                seconds, moved = drain_s(tierd)
                values.append(seconds * GIB / moved)
                tierd.ask("POST", f"/v1/models/{weights.name}/evict")
                while tierd.status()["resident_bytes"] > 0:
                    time.sleep(0.01)
    return [rows.row("drain_1gib_s", "s", values, note="between declared tiers, at the default limit of 256 MiB/s: 4 s are the limit's")]


def in_guest(program, *arguments):
    """The lines of JSON that a program of the build's tests prints in the guest, or why there are none."""
    command = [HERE.parent / "scripts" / "guest.sh", "--limit", "400", "--copy", BUILD / "tests" / program, "--", program, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        return [], (run.stdout + run.stderr).strip().splitlines()[-1]
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")], ""


def moves_beside_copies():
    lines, unavailable_reason = in_guest("tierd_pages_bench", "0", "2")
    if unavailable_reason:
        return [rows.skipped("migrate_vs_memcpy", "bytes_per_s", unavailable_reason)]
    results = []
    for pages, suffix in (("hugetlb", ""), ("thp", "_thp"), ("4k", "_4k")):
        own = [line for line in lines if line["pages"] == pages]
        note = f"32 MiB of {pages} pages from DRAM to CXL, in the guest (emulated processors)"
        column = {key: [line[key] for line in own] for key in ("move", "kernel", "copy")}
        results += [rows.row(f"migrate_vs_memcpy{suffix}", "bytes_per_s", column["move"], "memcpy", column["copy"], note, 0),
                    rows.row(f"kernel_move_pages_vs_memcpy{suffix}", "bytes_per_s", column["kernel"], "memcpy", column["copy"], note, 0),
                    rows.row(f"migrate_vs_move_pages{suffix}", "bytes_per_s", column["move"], "move_pages", column["kernel"], note, 0)]
    return results


def moves_beside_readers():
    lines, unavailable_reason = in_guest("tierd_moves_bench")
    if unavailable_reason:
        return [rows.skipped(name, "", unavailable_reason) for name in ("reader_slowdown", "drain_1gib_guest_s")]
    slices = [line for line in lines if line["what"] == "reader"]
    drains = [line for line in lines if line["what"] == "drain"]
    moved = statistics.median(line["moved_per_s"] for line in slices) / MIB
    note = (f"slices of 3 s in turn; {moved:.0f} MiB/s moved of a limit of 256, the pace at the end {slices[-1]['pace'] / MIB:.0f}; in the guest "
            "(2 emulated processors)")
    return [rows.row("reader_slowdown", "times", [line["still"] / line["moving"] for line in slices], note=note),
            rows.row("drain_1gib_guest_s", "s", [line["ns"] / 1e9 * GIB / line["bytes"] for line in drains],
                     note=f"{drains[0]['bytes'] / MIB:.0f} MiB without a limit, scaled to 1 GiB; in the guest (emulated processors)")]


PARTS = {"guest": [moves_beside_copies, moves_beside_readers], "host": [many_extents, declared_drain]}


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", choices=PARTS, help="these rows anew; the others stay as they were measured last")
    only = options.parse_args().only
    target = BUILD / "bench" / "migrate.json"
    results = [row for name, parts in PARTS.items() if only in (None, name) for part in parts for row in part()]
    print(rows.table(results))
    if only and target.exists():
        fresh = {row["name"] for row in results}
        results = [row for row in json.loads(target.read_text())["results"] if row["name"] not in fresh] + results
    facts = {"commit": machine.commit(), "machine": machine.describe(BUILD), "versions": {"tierd": machine.first_line([str(BUILD / "bin" / "tierd"), "--version"])}}
    rows.write(target, "migrate", facts, results)


if __name__ == "__main__":
    sys.exit(main())
