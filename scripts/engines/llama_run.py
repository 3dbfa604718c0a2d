"""One run of llama.cpp (xllamacpp) on one GGUF file: loads it, generates greedily, says what it saw.

Writes one JSON object a line to standard output: {"event": "first_token"} as soon as there is one, then
{"event": "done", ...} with the figures. With --hold it then keeps the model loaded until its standard input ends.
All that could make two runs differ is fixed: seed, threads, batch, greedy sampling, no warm-up. Weights are used where
they are mapped (no repacking into buffers of the engine's own), so what is measured is the mapping.
Exit status: 0; 1 when the engine refuses the file or stops early.
"""

import argparse
import json
import resource
import sys
import time

import xllamacpp


def parameters(model, threads):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = 512, 256, 256, 1
    params.n_gpu_layers, params.fit_params, params.warmup = 0, False, False
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP
    params.lazy_mode = xllamacpp.llama_lazy_mode.LLAMA_LAZY_MODE_OFF
    params.no_extra_bufts = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.sampling.seed, params.sampling.temp, params.sampling.top_k = 1, 0, 1
    params.verbosity = 0
    return params


def say(record):
    print(json.dumps(record), flush=True)


def bytes_read_from_disk():
    """What this process caused to be read from a disk: reads and page-cache misses of its mappings alike."""
    with open("/proc/self/io") as lines:
        return int(dict(line.split(": ") for line in lines)["read_bytes"])


def generate(server, prompt, count):
    """Returns the token ids and the time (monotonic, s) at which each came."""
    tokens, times = [], []

    def take(chunk):
        probabilities = chunk["choices"][0].get("logprobs")
        for token in (probabilities or {}).get("content", []):
            if not tokens:
                say({"event": "first_token"})
            tokens.append(token["id"])
            times.append(time.monotonic())
        return False

    server.handle_completions(
        {"prompt": prompt, "max_tokens": count, "temperature": 0, "top_k": 1, "seed": 1, "ignore_eos": True,
         "cache_prompt": False, "stream": True, "logprobs": 1}, take)
    return tokens, times


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", required=True, help="GGUF file")
    options.add_argument("--prompt", default="Once upon a time, a small fox who lived at the edge of the forest")
    options.add_argument("--tokens", type=int, default=48)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--hold", action="store_true", help="keep the model loaded until standard input ends")
    options = options.parse_args()

    read_before, begin = bytes_read_from_disk(), time.monotonic()
    server = xllamacpp.Server(parameters(options.model, options.threads))
    loaded = time.monotonic()
    tokens, times = generate(server, options.prompt, options.tokens)
    if len(tokens) != options.tokens:
        sys.exit(f"llama_run: {len(tokens)} of {options.tokens} tokens came; see the engine's messages above")

    say({
        "event": "done",
        "tokens": tokens,
        "load_s": loaded - begin,
        "ttft_s": times[0] - begin,
        "tokens_per_s": (len(times) - 1) / (times[-1] - times[0]),
        "bytes_read": bytes_read_from_disk() - read_before,
        "major_faults": resource.getrusage(resource.RUSAGE_SELF).ru_majflt,
    })
    if options.hold:
        sys.stdin.read()


if __name__ == "__main__":
    main()
