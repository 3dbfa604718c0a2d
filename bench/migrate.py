"""What tiers and moves cost: 1M extents with nothing to do, and pages that change their node in the guest beside copying
them. Writes build/bench/migrate.json.

2 TiB of sparse files (64 of 32 GiB) are mapped by one reader and not touched. An idle epoch is the engine thread's processor
time over some seconds by the number of epochs in them; the bytes of metadata are what the daemon's own memory grew by.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import daemon
import machine
import rows
from context import HERE

BUILD = HERE.parent / "build"
FILES, FILE_BYTES = 64, 32 << 30
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


def measure(folder, config):
    (folder / "tierd.toml").write_text(config)
    files = []
    for number in range(FILES):
        files.append(folder / f"part-{number}.weights")
        files[-1].touch()
        os.truncate(files[-1], FILE_BYTES)
    options = ["--config", folder / "tierd.toml"]
    results = []
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
        extents = sum(model["extents"] for model in tierd.models())
        per_extent = (own_memory_bytes(tierd.process.pid) - empty_bytes) / extents
        results = [extents, mapped_s, per_extent, idle_epochs_us(tierd), tierctl_ms(tierd)]
        reader.stdin.close()
        reader.wait()
    return results


def moves_beside_copies():
    """In the guest, whose processors are emulated: the two compare with each other, not with any machine."""
    command = [HERE.parent / "scripts" / "guest.sh", "--copy", BUILD / "tests" / "tierd_pages_bench", "--", "tierd_pages_bench", "0", "2"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        return [rows.skipped("migrate_vs_memcpy", "bytes_per_s", (run.stdout + run.stderr).strip().splitlines()[-1])]
    results = []
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    for pages, name in ((2 << 20, "migrate_vs_memcpy"), (4096, "migrate_vs_memcpy_4k")):
        own = [line for line in lines if line["page_bytes"] == pages]
        results.append(rows.row(name, "bytes_per_s", [line["move"] for line in own], "memcpy", [line["copy"] for line in own],
                                f"32 MiB from DRAM to CXL by pages of {pages} bytes, in the guest (emulated processors)", 0))
    return results


def main():
    results = moves_beside_copies()
    for name, config in (("one tier", ""), ("three tiers", TIERS)):
        with tempfile.TemporaryDirectory(prefix="tierd-migrate-", dir=BUILD) as folder:
            extents, mapped_s, per_extent, epochs, answers = measure(pathlib.Path(folder), config)
        note = f"{name}, {extents} extents in {FILES} sparse files, nothing to do"
        suffix = "" if name == "one tier" else "_tiers"
        results += [rows.row(f"idle_epoch_us_1M{suffix}", "us of a processor", epochs, note=note, digits=1),
                    rows.row(f"register_1M_s{suffix}", "s", [mapped_s], note=note),
                    rows.row(f"metadata_per_extent{suffix}", "bytes", [per_extent], note=note, digits=1),
                    rows.row(f"tierctl_models_ms_1M{suffix}", "ms", answers, note=note, digits=1)]
    print(rows.table(results))
    facts = {"commit": machine.commit(), "machine": machine.describe(BUILD), "versions": {"tierd": machine.first_line([str(BUILD / "bin" / "tierd"), "--version"])}}
    rows.write(BUILD / "bench" / "migrate.json", "migrate", facts, results)


if __name__ == "__main__":
    sys.exit(main())
