"""How a finished MoE model routes: how popular experts are, and how many of a token's experts the next token uses again.

  routing.py MODEL.gguf [--trace TRACE.npy]

Without a trace the popularity is computed from the routers' weights, with normally distributed inputs in the place of
the residual stream. With one (engines/llama.py --trace) it is counted: an expert was used when the middle of its slice
of ffn_gate_exps was touched. Prints one JSON object; shares are of all uses, most popular expert first, averaged over layers.
"""

import argparse
import json
import math
import re
import struct

import numpy

GRANULE = 64 << 10
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Reader:
    """Just enough of GGUF for files that make_model.py wrote."""

    def __init__(self, path):
        self.file = open(path, "rb")
        _, tensors, keys = struct.unpack("<4xIQQ", self.file.read(24))
        self.keys = {self.text(): self.value(self.number("I")) for _ in range(keys)}
        entries = [self.entry() for _ in range(tensors)]
        base = -(-self.file.tell() // 32) * 32
        self.tensors = {name: (dims, kind, base + offset) for name, dims, kind, offset in entries}

    def number(self, form):
        return struct.unpack("<" + form, self.file.read(struct.calcsize("<" + form)))[0]

    def text(self):
        return self.file.read(self.number("Q")).decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        raw = self.file.read(SIZES[kind])
        return int.from_bytes(raw, "little") if kind in (0, 4, 7, 10) else raw

    def entry(self):
        name, count = self.text(), self.number("I")
        dims = [self.number("Q") for _ in range(count)]
        return name, dims, self.number("I"), self.number("Q")


def used_in_trace(model, layer, trace):
    """One row a token, one column an expert."""
    dims, _, offset = model.tensors[f"blk.{layer}.ffn_gate_exps.weight"]
    slice_bytes = dims[0] * dims[1] // 32 * 34
    middles = (offset + slice_bytes * numpy.arange(dims[2]) + slice_bytes // 2) // GRANULE
    return trace[1:, middles].astype(bool)


def used_by_chance(model, layer, used, inputs):
    dims, _, offset = model.tensors[f"blk.{layer}.ffn_gate_inp.weight"]
    model.file.seek(offset)
    weights = numpy.frombuffer(model.file.read(4 * math.prod(dims)), "<f4").reshape(dims[1], dims[0])
    stream = inputs.standard_normal((2000, dims[0]))
    stream[:, 0] = 127 / 73.9 / 1.2  # the constant channel, as make_model.py expects it behind the norm
    best = numpy.argpartition(-(stream @ weights.T), used, axis=1)[:, :used]
    chosen = numpy.zeros((len(stream), dims[1]), bool)
    numpy.put_along_axis(chosen, best, True, axis=1)
    return chosen


def summary(chosen):
    """From one array a layer."""
    shares = numpy.mean([numpy.sort(c.mean(0) / c.mean(0).sum())[::-1] for c in chosen], axis=0)
    repeats = numpy.mean([(c[1:] & c[:-1]).sum() / max(1, c[1:].sum()) for c in chosen])
    count = len(shares)
    return {"experts": count, "used_by_a_token": round(float(numpy.mean([c.sum(1).mean() for c in chosen])), 2),
            "share_of_most_popular_eighth": round(float(shares[: count // 8].sum()), 3),
            "share_of_most_popular_half": round(float(shares[: count // 2].sum()), 3),
            "repeated_by_next_token": round(float(repeats), 3)}


def check(path, trace_path=None):
    model = Reader(path)
    arch = model.keys["general.architecture"]
    layers = sorted(int(m[1]) for m in (re.fullmatch(r"blk\.(\d+)\.ffn_gate_exps\.weight", n) for n in model.tensors) if m)
    used = model.keys[f"{arch}.expert_used_count"]
    if trace_path:
        trace = numpy.unpackbits(numpy.load(trace_path), axis=1)
        return {"from": "trace", **summary([used_in_trace(model, layer, trace) for layer in layers])}
    inputs = numpy.random.default_rng(1)
    return {"from": "weights", **summary([used_by_chance(model, layer, used, inputs) for layer in layers])}


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model")
    options.add_argument("--trace")
    options = options.parse_args()
    print(json.dumps(check(options.model, options.trace)))


if __name__ == "__main__":
    main()
