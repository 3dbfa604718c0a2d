"""Makes weight files for the benchmarks: GGUF models that llama.cpp really runs, and safetensors, all of random bytes.

The same options and seed give the same bytes, at any size; nothing bigger than a few MiB is held in memory. What a model
says is nonsense, but each of its tokens touches what a real model of that shape touches.

  make_model.py dense OUT.gguf --size 4GiB                      qwen3, Q8_0
  make_model.py moe OUT.gguf --size 6GiB --router zipf|uniform  qwen3moe, Q8_0, experts stacked in one tensor a layer
  make_model.py safetensors OUT.safetensors --size 2GiB         F16 tensors of 32 MiB

How experts become popular: one channel of the residual stream (BIAS) is the same in every embedding and written by no
layer. The router's row for expert e has -S * ln(rank of e) there, each layer with a ranking of its own; the row's other
values add noise of standard deviation one that depends on the token. Norms let the channel through to the router alone.
With --router uniform the channel has no part in the router. Consecutive tokens share experts beyond chance because
attention's gain (ATTENTION_GAIN) makes the slowly changing mean over the context a good part of the residual stream.
routing.py checks both, on the finished file.

Exit status: 0; 2 for impossible options.
"""

import argparse
import json
import math
import os
import pathlib
import struct

import numpy

BIAS = 0             # the constant channel of the residual stream
ATTENTION_GAIN = 3.0  # standard deviation of what attention adds, relative to a plain random matrix
RESIDUAL_RMS = 1.2    # of the residual stream half-way through the layers, about
BLOCK = 32           # weights in a Q8_0 block
BLOCK_BYTES = 34      # half-precision scale, then 32 signed bytes
BYTE_STD = 73.9       # standard deviation of a uniformly random signed byte
ALIGN = 32           # of tensor data in a GGUF file (the format's default, which real files use)
CHUNK_BYTES = 4 << 20
HEAD_DIM = 128
F32, Q8_0 = 0, 8


class Shape:
    """How a model of about `size_bytes` is built; real models' proportions, fewer layers when small."""

    def __init__(self, kind, size_bytes):
        small = size_bytes < 2 << 30
        self.kind = kind
        self.arch = "qwen3moe" if kind == "moe" else "qwen3"
        self.vocabulary = 4096 if small else 16384
        self.experts, self.used = (0, 0) if kind == "dense" else (32, 4) if small else (64, 8)
        self.embedding = (1024 if small else 2048) if kind == "moe" else (2048 if small else 4096)
        self.feed_forward = 512 if kind == "moe" else 3 * self.embedding
        self.heads = self.embedding // HEAD_DIM
        self.heads_kv = max(1, self.heads // 4)
        outside = 2 * self.vocabulary * self.embedding
        self.layers = max(1, round((size_bytes * BLOCK / BLOCK_BYTES - outside) / self.weights_in_layer()))

    def weights_in_layer(self):
        attention = self.embedding * HEAD_DIM * 2 * (self.heads + self.heads_kv)
        return attention + 3 * self.embedding * self.feed_forward * max(1, self.experts)


class Tensor:
    """Name, dimensions (fastest first), type, and how its values are made. `zero_rows` are rows of zeros."""

    def __init__(self, name, dims, std=None, values=None, zero_rows=(), constant_channel=False):
        self.name, self.dims, self.std, self.values = name, dims, std, values
        self.zero_rows, self.constant_channel = frozenset(zero_rows), constant_channel
        self.type = F32 if values is not None else Q8_0

    def bytes(self):
        count = math.prod(self.dims)
        return count * 4 if self.type == F32 else count // BLOCK * BLOCK_BYTES

    def write(self, out, rng):
        if self.type == F32:
            return out.write(self.values.astype("<f4").tobytes())
        row_blocks = self.dims[0] // BLOCK
        rows, rows_of_one = math.prod(self.dims[1:]), self.dims[1]
        step = max(1, CHUNK_BYTES // (row_blocks * BLOCK_BYTES))
        scale = numpy.frombuffer(numpy.float16(self.std / BYTE_STD).tobytes(), numpy.uint8)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            chunk = numpy.frombuffer(rng.bytes(count * row_blocks * BLOCK_BYTES), numpy.uint8).copy()
            chunk = chunk.reshape(count, row_blocks, BLOCK_BYTES)
            chunk[:, :, :2] = scale
            for row in range(first, first + count):
                if row % rows_of_one in self.zero_rows:
                    chunk[row - first] = 0
            if self.constant_channel:
                chunk[:, BIAS // BLOCK, 2 + BIAS % BLOCK] = 127
            out.write(chunk.tobytes())


def norm(width, bias=0.0):
    values = numpy.ones(width)
    values[BIAS] = bias
    return values


def router(shape, popularity, skew, rng):
    """Row e, column c: what channel c says for expert e."""
    # What the channel is behind the norm: its value beside the residual's root mean square.
    channel = (127 / BYTE_STD) / RESIDUAL_RMS
    weights = rng.standard_normal((shape.experts, shape.embedding)) / math.sqrt(shape.embedding)
    ranks = rng.permutation(shape.experts) + 1
    weights[:, BIAS] = -skew * numpy.log(ranks) / channel if popularity == "zipf" else 0
    return weights


def tensors_of(shape, options):
    """All tensors in the file's order, which is also the order in which a pass touches them."""
    width, heads = shape.embedding, shape.heads * HEAD_DIM
    heads_kv = shape.heads_kv * HEAD_DIM
    plain = 1 / math.sqrt(width)
    into_residual = 1 / math.sqrt(2 * shape.layers)  # keeps the residual stream's size about the same in all layers
    yield Tensor("token_embd.weight", (width, shape.vocabulary), std=1.0, constant_channel=True)
    for layer in range(shape.layers):
        name = f"blk.{layer}."
        yield Tensor(name + "attn_norm.weight", (width,), values=norm(width))
        yield Tensor(name + "attn_q.weight", (width, heads), std=plain)
        yield Tensor(name + "attn_k.weight", (width, heads_kv), std=plain)
        yield Tensor(name + "attn_v.weight", (width, heads_kv), std=plain)
        yield Tensor(name + "attn_q_norm.weight", (HEAD_DIM,), values=numpy.ones(HEAD_DIM))
        yield Tensor(name + "attn_k_norm.weight", (HEAD_DIM,), values=numpy.ones(HEAD_DIM))
        yield Tensor(name + "attn_output.weight", (heads, width), zero_rows=[BIAS],
                     std=ATTENTION_GAIN * into_residual / math.sqrt(heads))
        yield Tensor(name + "ffn_norm.weight", (width,), values=norm(width, 1.0 if shape.experts else 0.0))
        yield from feed_forward(shape, options, layer, name + "ffn_", into_residual)
    yield Tensor("output_norm.weight", (width,), values=norm(width))
    # What is no word has a row of zeros: some other logit is always higher, so it is never said.
    yield Tensor("output.weight", (width, shape.vocabulary), std=plain, zero_rows=range(first_word()))


def feed_forward(shape, options, layer, name, into_residual):
    width, inner = shape.embedding, shape.feed_forward
    inside, back = 1 / math.sqrt(width), 2 * into_residual / math.sqrt(inner)
    if not shape.experts:
        yield Tensor(name + "gate.weight", (width, inner), std=inside)
        yield Tensor(name + "up.weight", (width, inner), std=inside)
        yield Tensor(name + "down.weight", (inner, width), std=back, zero_rows=[BIAS])
        return
    rng = numpy.random.default_rng([options.seed, 1 << 20, layer])
    yield Tensor(name + "gate_inp.weight", (width, shape.experts),
                 values=router(shape, options.router, options.skew, rng))
    yield Tensor(name + "gate_exps.weight", (width, inner, shape.experts), std=inside)
    yield Tensor(name + "up_exps.weight", (width, inner, shape.experts), std=inside)
    yield Tensor(name + "down_exps.weight", (inner, width, shape.experts), std=back, zero_rows=[BIAS])


def first_word():
    return 3 + 256  # unknown, begin, end, and a token for each byte


def vocabulary(count):
    """Pieces, scores and kinds (2 unknown, 3 control, 6 byte, 1 word) of a sentencepiece-like tokenizer."""
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [2, 3, 3] + [6] * 256
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["\u2581"] + list(letters) + [a + b for a in letters for b in letters]
    words += [a + b + c for a in letters for b in letters for c in letters]
    pieces += words[: count - len(pieces)]
    kinds += [1] * (count - len(kinds))
    return pieces, [-float(rank) for rank in range(count)], kinds


class Header:
    """A GGUF header as it is written: keys and values first, then one entry a tensor."""

    U32, F32_VALUE, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5

    def __init__(self):
        self.keys, self.count = b"", 0

    @staticmethod
    def text(value):
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def add(self, key, kind, packed):
        self.keys += self.text(key) + struct.pack("<I", kind) + packed
        self.count += 1

    def u32(self, key, value):
        self.add(key, self.U32, struct.pack("<I", value))

    def f32(self, key, value):
        self.add(key, self.F32_VALUE, struct.pack("<f", value))

    def flag(self, key, value):
        self.add(key, self.BOOL, struct.pack("<B", value))

    def string(self, key, value):
        self.add(key, self.STRING, self.text(value))

    def array(self, key, kind, items):
        self.add(key, self.ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))

    def finish(self, tensors):
        infos, offset = b"", 0
        for tensor in tensors:
            infos += self.text(tensor.name) + struct.pack("<I", len(tensor.dims))
            infos += b"".join(struct.pack("<Q", n) for n in tensor.dims) + struct.pack("<IQ", tensor.type, offset)
            offset += -(-tensor.bytes() // ALIGN) * ALIGN
        head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), self.count) + self.keys + infos
        return head + bytes(-len(head) % ALIGN)


def header_of(shape, name):
    header = Header()
    arch = shape.arch
    header.string("general.architecture", arch)
    header.string("general.name", name)
    header.u32("general.file_type", 7)
    header.u32(f"{arch}.context_length", 4096)
    header.u32(f"{arch}.embedding_length", shape.embedding)
    header.u32(f"{arch}.block_count", shape.layers)
    header.u32(f"{arch}.feed_forward_length", shape.feed_forward)
    header.u32(f"{arch}.attention.head_count", shape.heads)
    header.u32(f"{arch}.attention.head_count_kv", shape.heads_kv)
    header.u32(f"{arch}.attention.key_length", HEAD_DIM)
    header.u32(f"{arch}.attention.value_length", HEAD_DIM)
    header.f32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-6)
    header.f32(f"{arch}.rope.freq_base", 1e6)
    if shape.experts:
        header.u32(f"{arch}.expert_count", shape.experts)
        header.u32(f"{arch}.expert_used_count", shape.used)
        header.u32(f"{arch}.expert_feed_forward_length", shape.feed_forward)
    pieces, scores, kinds = vocabulary(shape.vocabulary)
    header.string("tokenizer.ggml.model", "llama")
    header.array("tokenizer.ggml.tokens", Header.STRING, [Header.text(piece) for piece in pieces])
    header.array("tokenizer.ggml.scores", Header.F32_VALUE, [struct.pack("<f", score) for score in scores])
    header.array("tokenizer.ggml.token_type", Header.I32, [struct.pack("<i", kind) for kind in kinds])
    header.u32("tokenizer.ggml.bos_token_id", 1)
    header.u32("tokenizer.ggml.eos_token_id", 2)
    header.u32("tokenizer.ggml.unknown_token_id", 0)
    header.flag("tokenizer.ggml.add_bos_token", True)
    return header


def make_gguf(options):
    shape = Shape(options.kind, options.size)
    tensors = list(tensors_of(shape, options))
    with open(partial(options.out), "wb") as out:
        out.write(header_of(shape, options.out.stem).finish(tensors))
        for number, tensor in enumerate(tensors):
            tensor.write(out, numpy.random.default_rng([options.seed, number]))
            out.write(bytes(-out.tell() % ALIGN))


def make_safetensors(options):
    each = min(32 << 20, options.size)
    count = max(1, options.size // each)
    side = 4096 if each == 32 << 20 else each // 2
    entries = {f"layers.{i}.weight": {"dtype": "F16", "shape": [each // 2 // side, side],
                                      "data_offsets": [i * each, (i + 1) * each]} for i in range(count)}
    head = json.dumps(entries).encode()
    head += b" " * (-(8 + len(head)) % 4096)  # tensors begin on a page, as direct readers like it
    rng = numpy.random.default_rng([options.seed, 1 << 21])
    with open(partial(options.out), "wb") as out:
        out.write(struct.pack("<Q", len(head)) + head)
        for first in range(0, count * each, CHUNK_BYTES):
            out.write(rng.bytes(min(CHUNK_BYTES, count * each - first)))


def partial(path):
    return path.with_suffix(".partial")


def size(text):
    units = {"GiB": 1 << 30, "MiB": 1 << 20}
    unit = text[-3:]
    return int(float(text[:-3]) * units[unit]) if unit in units else int(text)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("kind", choices=["dense", "moe", "safetensors"])
    options.add_argument("out", type=pathlib.Path)
    options.add_argument("--size", type=size, required=True, help="4GiB, 512MiB or bytes; models come near it")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--router", choices=["zipf", "uniform"], default="zipf")
    options.add_argument("--skew", type=float, default=1.0, help="S, the exponent of a Zipf-like popularity")
    options = options.parse_args()
    if options.size < 1 << 20:
        raise SystemExit("make_model: --size must be at least 1MiB")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    (make_safetensors if options.kind == "safetensors" else make_gguf)(options)
    with open(partial(options.out), "rb") as done:
        os.fsync(done.fileno())
    partial(options.out).rename(options.out)  # a cut-off call leaves no file that looks whole


if __name__ == "__main__":
    main()
