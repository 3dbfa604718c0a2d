"""The demo of devices: three models on a device that fits one, asked in turn, with and without tierd; then a table.

The device is a real NVIDIA device where there is one, else the simulated one; the first line says which. The engine is
tests/engines/mini. What must hold (else exit status 1 and a sentence): every answer is the one that the processor computes,
tierd answers every request, and moves less than whole models for requests that need a tenth of one. Figures are one run's,
and those of a simulated device show what moves and when, not how fast a device is. Also written to build/demo/gpu.json.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import gpu  # noqa: E402
from gpu import MIB  # noqa: E402

MODELS = 3
LINK_BYTES_PER_S = 2 << 30     # of the simulated GPU
CONTEXT_BYTES = 16 * MIB       # of each process on it
LAYERS = {True: 10, False: 120}  # simulated or not: contexts of a real GPU are some hundred MiB, and models are to be larger


class Way:
    """One way to serve the requests: what it answered, and what that took."""

    def __init__(self, demo, name):
        self.demo, self.name = demo, name
        self.loaded_s, self.first_output_s, self.refused, self.moved_bytes, self.held_bytes = [], [], 0, 0, 0

    def answered(self, seconds, checksum, model, request):
        if checksum != self.demo.expected[request]:
            raise gpu.Failed(f"{self.name}: model {model} answered {checksum}, the processor {self.demo.expected[request]}")
        self.first_output_s.append(seconds)
        self.held_bytes = max(self.held_bytes, self.demo.device.held_bytes())

    def ended(self, engine):
        self.moved_bytes += engine.close() or self.demo.model_bytes

    def row(self):
        return {"way": self.name, "answered": len(self.first_output_s), "refused": self.refused,
                "loaded_s": statistics.median(self.loaded_s) if self.loaded_s else None,
                "first_output_s": statistics.median(self.first_output_s) if self.first_output_s else None,
                "worst_first_output_s": max(self.first_output_s, default=None), "moved_bytes": self.moved_bytes,
                "held_bytes": self.held_bytes}


class Demo:
    def __init__(self, options, folder):
        simulated = options.simulated or not gpu.has_real_device()
        self.rounds, self.layers, self.folder = options.rounds, options.layers or LAYERS[simulated], folder
        self.device = gpu.Device(options.build.resolve(), folder, simulated, link_bytes_per_s=LINK_BYTES_PER_S,
                             context_bytes=CONTEXT_BYTES)
        self.tenth = max(1, self.layers // 10)
        print(f"GPU: {self.device.name()}" + (f", its link {LINK_BYTES_PER_S / 2**30:.0f} GiB/s" if simulated else ""))
        self.models = [folder / f"model-{name}.safetensors" for name in "ABC"]
        gpu.make_model(self.device, self.models[0], self.layers, options.width)
        for copy in self.models[1:]:  # files of their own; the same weights, so that one answer is right for all
            shutil.copyfile(self.models[0], copy)
        self.model_bytes = self.models[0].stat().st_size
        contexts_bytes = MODELS * gpu.context_bytes(self.device, folder)
        self.device.leave((int(self.model_bytes * 1.3) + contexts_bytes) // gpu.CHUNK * gpu.CHUNK)
        self.capacity_bytes = int(self.model_bytes * 1.2) // gpu.CHUNK * gpu.CHUNK
        self.whole, self.part = (0, self.layers), (0, self.tenth)
        self.expected = {request: gpu.reference(self.device, self.models[0], request) for request in (self.whole, self.part)}
        print(f"{MODELS} models of {mib(self.model_bytes)}, {mib(self.device.memory()[0])} of the GPU free, {mib(contexts_bytes)} of it for contexts: "
              "it fits one\n")

    def plain_kept(self):
        """Every model loaded at the start and kept, as an engine with memory enough would."""
        way = Way(self, "plain, all kept loaded")
        engines = []
        for model in self.models:
            try:
                engines.append(gpu.Engine(self.device, model))
                way.loaded_s.append(engines[-1].loaded_s)
            except gpu.OutOfMemory:
                engines.append(None)
        for _ in range(self.rounds):
            for model, engine in zip(self.models, engines):
                if engine is None:
                    way.refused += 1
                else:
                    way.answered(*engine.ask(*self.whole), model.name, self.whole)
        for engine in filter(None, engines):
            way.ended(engine)
        return way

    def plain_in_turn(self, name, request):
        """What is left without tierd: a process for each request, which loads the whole model and ends."""
        way = Way(self, name)
        for _ in range(self.rounds):
            for model in self.models:
                engine = gpu.Engine(self.device, model)
                way.loaded_s.append(engine.loaded_s)
                seconds, checksum = engine.ask(*request)
                way.answered(engine.loaded_s + seconds, checksum, model.name, request)
                way.ended(engine)
        return way

    def under_tierd(self, name, request):
        way = Way(self, name)
        with gpu.tierd(self.device, self.folder, self.capacity_bytes, self.models) as daemon:
            for model in self.models:
                daemon.preload(model)  # for the others the weights are in the page cache
            engines = [gpu.Engine(self.device, model, daemon) for model in self.models]
            way.loaded_s = [engine.loaded_s for engine in engines]
            for _ in range(self.rounds):
                for model, engine in zip(self.models, engines):
                    way.answered(*engine.ask(*request), model.name, request)
            for engine in engines:
                way.ended(engine)
        return way

    def ways(self):
        tenth = f"{self.tenth} of {self.layers} layers"
        yield self.plain_kept()
        yield self.plain_in_turn("plain, a process a request", self.whole)
        yield self.under_tierd("tierd, all kept loaded", self.whole)
        yield self.plain_in_turn(f"plain, {tenth}", self.part)
        yield self.under_tierd(f"tierd, {tenth}", self.part)


def mib(count):
    return f"{count / MIB:.0f} MiB"


def seconds(value):
    return "-" if value is None else f"{value:.3f} s"


def table(rows, rounds):
    print(f"\n{MODELS * rounds} requests, model A, B, C, A, …\n{'':28}{'answered':>9}{'refused':>9}{'loaded':>10}{'first output':>14}"
          f"{'worst':>10}{'moved':>10}{'held':>9}")
    for row in rows:
        print(f"{row['way']:28}{row['answered']:>9}{row['refused']:>9}{seconds(row['loaded_s']):>10}"
              f"{seconds(row['first_output_s']):>14}{seconds(row['worst_first_output_s']):>10}{mib(row['moved_bytes']):>10}"
              f"{mib(row['held_bytes']):>9}")
    print("refused: the GPU was full, and no process with that model was there. loaded: from the start of a process until its\n"
          "load calls had returned. first output: from the request, of a process a request from its start; medians. moved: to\n"
          "the GPU, all requests together. held: at most, of the GPU, seen behind each answer. All weights were in the\n"
          "machine's memory before: in the page cache, or tierd's.")


def check(whole, plain_tenth, tenth):
    for row in (whole, tenth):
        if row["refused"] or not row["answered"]:
            raise gpu.Failed(f"{row['way']}: {row['refused']} requests were refused")
    if tenth["moved_bytes"] >= plain_tenth["moved_bytes"] // 2:
        raise gpu.Failed(f"{tenth['way']}: {mib(tenth['moved_bytes'])} went to the GPU")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="where tierd was built")
    options.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "demo", help="for the models and the report")
    options.add_argument("--simulated", action="store_true", help="even where a real GPU is")
    options.add_argument("--layers", type=int, default=None)
    options.add_argument("--width", type=int, default=2048)
    options.add_argument("--rounds", type=int, default=3)
    options = options.parse_args()
    needed = options.build.resolve() / "simcuda" / "mini_infer"
    if not needed.exists():
        print(f"skipped: the build has no {needed.name}: no CUDA toolkit was found when it was configured")
        sys.exit(77)
    folder = options.out.resolve() / "gpu"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        demo = Demo(options, folder)
        rows = []
        for way in demo.ways():
            rows.append(way.row())
            print(f"{way.name}: {rows[-1]['answered']} answered, {rows[-1]['refused']} refused", flush=True)
        table(rows, options.rounds)
        report = {"device": demo.device.name(), "simulated": demo.device.simulated, "model_bytes": demo.model_bytes,
                  "models": MODELS, "free_bytes": demo.device.memory()[0], "capacity_bytes": demo.capacity_bytes, "ways": rows}
        (options.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        check(*rows[2:])
    except gpu.Failed as failure:
        sys.exit(f"demo-gpu: {failure}")
    finally:
        for model in folder.glob("*.safetensors"):
            model.unlink()


if __name__ == "__main__":
    main()
