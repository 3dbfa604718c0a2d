"""One measured run of llama.cpp (xllamacpp): load, decode, and when each token came.

Writes one JSON object to standard output. Bytes read are those of all processes of the memory cgroup that it runs in
(--cgroup: the engine, and tierd where it serves), from the first token to the last. Tokens are drawn with a fixed seed:
the same logits give the same tokens, and random weights do not get caught in a loop as they would greedily.
With --trace it records instead which 64 KiB granules of the model each of the tokens in --follow touches: only
meaningful when the file is in the page cache and no tierd serves. With --hold it keeps the model until its standard input ends. Exit status: 0; 1 when the engine refuses or stops early.
"""

import argparse
import ctypes
import json
import mmap
import os
import pathlib
import sys
import time

import numpy
import xllamacpp

PROMPT = "once upon a time a small fox lived at the edge of the forest and every morning it went to the river"
GRANULE = 64 << 10
MADV_DONTNEED, MADV_NOHUGEPAGE = 4, 15


def parameters(options):
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = 512, 256, 256, 1
    params.n_gpu_layers, params.fit_params, params.warmup = 0, False, False
    params.load_mode = getattr(xllamacpp.llama_load_mode, f"LLAMA_LOAD_MODE_{options.load_mode.upper()}")
    params.lazy_mode = getattr(xllamacpp.llama_lazy_mode, f"LLAMA_LAZY_MODE_{options.lazy_mode.upper()}")
    if options.moe_cache:
        params.moe_cache_size = options.moe_cache
    params.no_extra_bufts = True  # weights are used where they are mapped, not repacked into the engine's own memory
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.sampling.seed, params.sampling.temp, params.sampling.top_k = 1, 1.0, 200
    params.verbosity = 0
    return params


def bytes_read_by(pid):
    try:
        with open(f"/proc/{pid}/io") as lines:
            return int(dict(line.split(": ") for line in lines)["read_bytes"])
    except OSError:  # it has ended
        return 0


def bytes_read(cgroup):
    pids = pathlib.Path(cgroup, "cgroup.procs").read_text().split() if cgroup else [os.getpid()]
    return sum(bytes_read_by(pid) for pid in pids)


def own_anonymous_bytes():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


class Trace:
    """Which granules of the model were touched since the last look, from the mapping's present pages.

    A look reads pagemap and drops the page tables (the pages stay in the page cache), so the next touch shows again,
    rounded up to the 64 KiB that the kernel maps around a fault. The engine must rest meanwhile.
    """

    def __init__(self, model):
        self.real, self.model_bytes, self.looks = os.path.realpath(model), os.path.getsize(model), []
        self.madvise = ctypes.CDLL(None, use_errno=True).madvise
        self.prepared = set()

    def ranges(self):
        with open("/proc/self/maps") as lines:
            for line in lines:
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[5].strip() == self.real:
                    begin, end = (int(part, 16) for part in fields[0].split("-"))
                    yield begin, end, int(fields[2], 16)

    def look(self):
        seen = numpy.zeros(-(-self.model_bytes // GRANULE), bool)
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for begin, end, offset in self.ranges():
                pagemap.seek(begin // mmap.PAGESIZE * 8)
                entries = numpy.frombuffer(pagemap.read((end - begin) // mmap.PAGESIZE * 8), "<u8")
                present = numpy.flatnonzero(entries >> 63) * mmap.PAGESIZE + offset
                self.advise(begin, end)
                seen[present // GRANULE] = True
        self.looks.append(seen)

    def advise(self, begin, end):
        if begin not in self.prepared:
            self.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_NOHUGEPAGE)
            self.prepared.add(begin)
        self.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)

    def save(self, path):
        numpy.save(path, numpy.packbits(numpy.array(self.looks), axis=1))


class Run:
    """Counts tokens as they come. Ends the process by itself when the time is up: the engine can't be asked to stop."""

    def __init__(self, options, begin):
        self.options, self.begin, self.loaded = options, begin, 0.0
        self.tokens, self.times, self.read = [], [], []

    def take(self, chunk):
        for token in (chunk["choices"][0].get("logprobs") or {}).get("content", []):
            self.times.append(time.monotonic())
            self.tokens.append(token["id"])
            self.read.append(bytes_read(self.options.cgroup))
        if self.times and len(self.times) > 2 and time.monotonic() - self.times[0] > self.options.seconds:
            self.report()
            os._exit(0)
        return False

    def report(self):
        decode_s = self.times[-1] - self.times[0]
        print(json.dumps({
            "tokens": self.tokens,
            "load_s": self.loaded - self.begin,
            "prefill_s": self.times[0] - self.loaded,
            "ttft_s": self.times[0] - self.begin,
            "tokens_per_s": (len(self.times) - 1) / decode_s,
            "token_ms": [round(1e3 * (b - a), 2) for a, b in zip(self.times, self.times[1:])],
            "bytes_read": self.read[-1],
            "bytes_per_token": (self.read[-1] - self.read[0]) / (len(self.read) - 1),
            "anonymous_bytes": own_anonymous_bytes(),
        }), flush=True)


def request(prompt, tokens, keep=False):
    return {"prompt": prompt, "max_tokens": tokens, "temperature": 1.0, "top_k": 200, "seed": 1, "ignore_eos": True,
            "cache_prompt": keep, "stream": True, "logprobs": 1}


def record_trace(options, server):
    """The prompt is row 0. Each further row is one token: the prompt so far is kept, so only the last token is computed."""
    trace, tokens, answers = Trace(options.model), json.loads(options.follow), []

    def take(chunk):
        answers.extend((chunk["choices"][0].get("logprobs") or {}).get("content", []))
        return False

    trace.look()
    trace.looks.clear()
    for count in range(len(tokens)):
        server.handle_completions(request([PROMPT, *tokens[:count]], 1, keep=True), take)
        trace.look()
    if len(answers) != len(tokens):
        sys.exit(f"llama: {len(answers)} of {len(tokens)} answers came; see the engine's messages above")
    trace.save(options.trace)
    print(json.dumps({"traced_tokens": len(tokens)}))


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", required=True)
    options.add_argument("--tokens", type=int, default=24)
    options.add_argument("--seconds", type=float, default=600, help="stop after this long from the first token")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--load-mode", default="mmap")
    options.add_argument("--lazy-mode", default="off")
    options.add_argument("--moe-cache", type=int, default=0)
    options.add_argument("--cgroup", help="folder of the memory cgroup whose reads count")
    options.add_argument("--trace", help="record a trace into this file (.npy: a row of packed bits a token)")
    options.add_argument("--follow", default="[]", help="with --trace: the tokens that a run said, as JSON")
    options.add_argument("--hold", action="store_true")
    options = options.parse_args()

    run = Run(options, time.monotonic())
    server = xllamacpp.Server(parameters(options))
    run.loaded = time.monotonic()
    if options.trace:
        return record_trace(options, server)
    server.handle_completions(request(PROMPT, options.tokens), run.take)
    if len(run.tokens) != options.tokens:
        sys.exit(f"llama: {len(run.tokens)} of {options.tokens} tokens came; see the engine's messages above")
    run.report()
    if options.hold:
        sys.stdin.read()


if __name__ == "__main__":
    main()
