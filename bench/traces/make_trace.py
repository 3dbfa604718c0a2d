"""Makes synthetic traces of touches, for `tierctl policy test`, the tests and `make bench-policy`.

The same options and seed give the same bytes. docs/trace-format.md describes the file; each touch of an extent is in it, at
the time that it would have if everything were in the fastest memory.

  make_trace.py dense OUT   one dense model, swept once a token
  make_trace.py moe OUT     a mixture of experts: Zipf popularity, experts that repeat from token to token and follow each
                            other from layer to layer, popularity that drifts
  make_trace.py mixed OUT   three tenants: a batch job that sweeps a large model, a mixture, and a small model used now and then
  make_trace.py chain OUT   a mixture in which an expert of one layer decides that of the next
  make_trace.py turns OUT   three dense models that are used by turns

Prints one line of JSON about the trace: extents, bytes, touches; of mixtures how many of a token's experts the one before had.
"""

import argparse
import bisect
import heapq
import itertools
import json
import pathlib
import random

OPEN, CLOSE, TOUCH, END = 1, 2, 4, 8
ROLE = {"other": 0, "embedding": 1, "attention": 2, "router": 3, "expert": 4, "feed_forward": 5, "norm": 6, "head": 7}
MIB = 1 << 20
THINK_NS = 100_000  # computing with one extent of 2 MiB


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value):
    return varint(value * 2 if value >= 0 else -value * 2 - 1)


class Model:
    """Extents in the file's order; `place` finds them again by (layer, what, expert)."""

    def __init__(self, name, uid=0):
        self.name, self.uid, self.layers, self.experts = name, uid, 0, 0
        self.extents, self.place = [], {}

    def add(self, count, size, role, layer=None, expert=None, key=None):
        first = len(self.extents)
        self.extents += [(size, 0 if layer is None else layer + 1, 0 if expert is None else expert + 1, ROLE[role])] * count
        if layer is not None:
            self.layers = max(self.layers, layer + 1)
        if expert is not None:
            self.experts = max(self.experts, expert + 1)
        self.place.setdefault((layer, key or role, expert), []).extend(range(first, first + count))

    def bytes(self):
        return sum(size for size, *_ in self.extents)

    def packed(self):
        runs = [(len(list(same)), *extent) for extent, same in itertools.groupby(self.extents)]
        name = self.name.encode()
        numbers = [self.uid, 0, self.layers, self.experts, len(runs), *itertools.chain(*runs), 0, 0]
        return varint(len(name)) + name + b"".join(map(varint, numbers))


def dense_model(name, layers, uid=0):
    model = Model(name, uid)
    model.add(8, 2 * MIB, "embedding")
    for layer in range(layers):
        model.add(6, 2 * MIB, "attention", layer)
        model.add(16, 2 * MIB, "feed_forward", layer)
    model.add(8, 2 * MIB, "head")
    return model


def expert_model(name, layers, experts, uid=0):
    """As a file with stacked tensors: a layer's gates of all experts, then the ups, then the downs."""
    model = Model(name, uid)
    model.add(4, 2 * MIB, "embedding")
    for layer in range(layers):
        model.add(3, 2 * MIB, "attention", layer)
        model.add(1, 2 * MIB, "router", layer)
        for _ in ("gate", "up", "down"):
            for expert in range(experts):
                model.add(1, 2 * MIB, "expert", layer, expert)
    model.add(4, 2 * MIB, "head")
    return model


def sweep(model, passes, think_ns=THINK_NS, pause_ns=0):
    """(ns since the touch before, index): the whole model in order, again and again."""
    for number in range(passes):
        for index in range(len(model.extents)):
            yield (pause_ns if index == 0 and number else think_ns), index


class Router:
    """Which experts a token takes, layer by layer."""

    def __init__(self, layers, experts, used, rng, skew=0.9, keep=0.12, follow=0.25, drift=0.0005):
        self.rng, self.used, self.keep, self.follow, self.drift = rng, used, keep, follow, drift
        self.ranking = [rng.sample(range(experts), experts) for _ in range(layers)]
        self.successor = [rng.sample(range(experts), experts) for _ in range(layers)]
        self.cumulated = list(itertools.accumulate((rank + 1) ** -skew for rank in range(experts)))
        self.last = [[] for _ in range(layers)]
        self.repeated = self.chosen = 0

    def token(self):
        above = []
        for layer in range(len(self.ranking)):
            above = self.choose(layer, above)
            yield layer, sorted(above)
        for ranking in self.ranking:  # two experts change places now and then
            if self.rng.random() < self.drift * len(ranking):
                one, other = self.rng.sample(range(len(ranking)), 2)
                ranking[one], ranking[other] = ranking[other], ranking[one]

    def choose(self, layer, above):
        chosen = set()
        while len(chosen) < self.used:
            draw = self.rng.random()
            if draw < self.keep and self.last[layer]:
                chosen.add(self.rng.choice(self.last[layer]))
            elif draw < self.keep + self.follow and above:
                chosen.add(self.successor[layer][self.rng.choice(above)])
            else:
                place = bisect.bisect(self.cumulated, self.rng.random() * self.cumulated[-1])
                chosen.add(self.ranking[layer][place])
        self.repeated += len(chosen & set(self.last[layer]))
        self.chosen += self.used if self.last[layer] else 0
        self.last[layer] = sorted(chosen)
        return self.last[layer]

    def repeats(self):
        return round(self.repeated / max(1, self.chosen), 3)


def mixture(model, router, tokens, think_ns=THINK_NS):
    for _ in range(tokens):
        for index in model.place[(None, "embedding", None)][:1]:
            yield think_ns, index
        for layer, experts in router.token():
            for what in ("attention", "router"):
                yield from ((think_ns, index) for index in model.place[(layer, what, None)])
            for expert in experts:
                yield from ((think_ns, index) for index in model.place[(layer, "expert", expert)])
        yield from ((think_ns, index) for index in model.place[(None, "head", None)])


def timed(slot, steps, start_ns=0):
    now = start_ns
    for think_ns, index in steps:
        now += think_ns
        yield now, slot, index


def write(path, models, touches):
    """`models` by slot, all open from the start; `touches` is a list a model of (ns, slot, index)."""
    out = bytearray(b"TIERDTRC" + varint(1) + varint(1) + varint(0))
    for slot, model in enumerate(models):
        out += bytes([OPEN]) + varint(0) + varint(slot) + model.packed()
    last_ns, last, count = 0, [0] * len(models), 0
    for now, slot, index in heapq.merge(*touches):
        out += bytes([TOUCH]) + varint(now - last_ns) + varint(slot) + signed(index - last[slot])
        last_ns, last[slot], count = now, index, count + 1
    out += bytes([END]) + varint(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)
    return {"extents": sum(len(m.extents) for m in models), "bytes": sum(m.bytes() for m in models), "touches": count}


def make_dense(path, scale, _rng):
    model = dense_model("dense.gguf", 24)
    return write(path, [model], [timed(0, sweep(model, 24 * scale))])


def make_moe(path, scale, rng):
    model = expert_model("moe.gguf", 16, 32)
    router = Router(16, 32, 4, rng)
    facts = write(path, [model], [timed(0, mixture(model, router, 300 * scale))])
    return facts | {"repeated_by_next_token": router.repeats()}


def make_mixed(path, scale, rng):
    batch = dense_model("batch.gguf", 32, uid=1001)
    chat = expert_model("chat.gguf", 8, 16, uid=1002)
    small = dense_model("small.gguf", 6, uid=1003)
    router = Router(8, 16, 2, rng)
    touches = [timed(0, sweep(batch, 16 * scale)), timed(1, mixture(chat, router, 250 * scale)),
               timed(2, sweep(small, 12 * scale, pause_ns=400_000_000))]
    facts = write(path, [batch, chat, small], touches)
    return facts | {"repeated_by_next_token": router.repeats()}


def make_chain(path, _scale, rng):
    model = expert_model("chain.gguf", 16, 32)
    router = Router(16, 32, 4, rng, keep=0, follow=1)
    return write(path, [model], [timed(0, mixture(model, router, 400))])


def make_turns(path, _scale, _rng):
    models = [dense_model(name, 6, uid=1000 + slot) for slot, name in enumerate(("first.gguf", "second.gguf", "third.gguf"))]
    length_ns = 10 * len(models[0].extents) * THINK_NS
    # One after the other, and again, whoever is not at work is idle; each turn has ten passes.
    def turns(slot):
        for turn in range(4):
            yield from timed(slot, sweep(models[slot], 10), (3 * turn + slot) * (length_ns + 1_000_000_000))
    return write(path, models, [turns(slot) for slot in range(3)])


KINDS = {"dense": make_dense, "moe": make_moe, "mixed": make_mixed, "chain": make_chain, "turns": make_turns}


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("kind", choices=KINDS)
    options.add_argument("out", type=pathlib.Path)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--scale", type=int, default=1, help="so many times as long")
    options = options.parse_args()
    print(json.dumps({"trace": options.kind, **KINDS[options.kind](options.out, options.scale, random.Random(options.seed))}))


if __name__ == "__main__":
    main()
