"""A model larger than its memory: tokens a second and bytes read a token, at the same memory limit for every contender.

The limit is model / ratio for weights, plus what the engine itself holds (its anonymous memory in a run with room for
everything), plus SLACK. Whoever has page cache may use all that is left of it; tierd's budget for weights is model /
ratio. An engine stops after a number of tokens or seconds, whichever comes first; rates are from the first token to the last.
"""

import statistics

import bound
import disk
import machine
import rows
from context import GIB, HERE, MIB, CannotRun, Failed, cgroup

LLAMA = HERE / "engines" / "llama.py"
SLACK = 96 * MIB  # the daemon, tierd-run, page tables: of 4.8 GiB in small pages, which two processes map, 35 MiB
MODELS = {"dense": ("dense", None), "moe_zipf": ("moe", "zipf"), "moe_uniform": ("moe", "uniform")}
# llama.cpp's own ways to load, beside mapping the file; names are arguments of engines/llama.py.
MODES = {"load_none": ["--load-mode", "none"], "load_direct_io": ["--load-mode", "direct_io"],
         "lazy": ["--lazy-mode", "on"], "moe_cache": ["--moe-cache", "8"]}


class PastRam:
    def __init__(self, bench, name):
        self.bench, self.name = bench, name
        kind, router = MODELS[name]
        self.path = bench.model(kind, getattr(bench.sizes, kind), router)
        self.bytes = self.path.stat().st_size
        self.trace = bench.out / f"trace-{self.path.stem}.npy"
        self.tokens, self.refused, self.disk_rate, self.loaded = None, {}, 0, None

    def command(self, group, *options):
        sizes = self.bench.sizes
        return [self.bench.python, LLAMA, "--model", self.path, "--tokens", str(sizes.tokens), "--seconds",
                str(sizes.seconds), "--cgroup", group.path, *options]

    def check_tokens(self, name, record):
        """All runs say the same; one that had less time says less of it."""
        shared = min(len(record["tokens"]), len(self.tokens or record["tokens"]))
        if self.tokens and record["tokens"][:shared] != self.tokens[:shared]:
            raise Failed(f"{self.name}, {name}: other tokens than with everything in memory")
        return record

    def resident(self):
        """Everything in memory: the tokens, the rate of computing alone, and the engine's own memory."""
        machine.drop_cache(self.path)
        machine.fill_cache(self.path)
        with cgroup(self.bytes + 4 * GIB) as group:
            records = [self.bench.run(self.command(group), group) for _ in range(2)]
        machine.drop_cache(self.path)
        machine.fill_cache(self.path, small_pages=True)
        with cgroup(self.bytes + 4 * GIB) as group:
            self.bench.run(self.command(group, "--trace", self.trace, "--follow", records[0]["tokens"]), group)
        self.tokens = records[0]["tokens"]
        self.check_tokens("everything in memory, again", records[1])
        # The best of all samples: a bound made of a slow moment would be no bound.
        self.compute_rate = max(record["tokens_per_s"] for record in records)
        self.own_bytes = max(record["anonymous_bytes"] for record in records)

    def side_by_side(self):
        """Everything in memory again, while fio reads: what computing and the disk give when both are wanted. A virtual machine's
        disk takes processor time too, of which its host may give it no more."""
        machine.drop_cache(self.path)
        machine.fill_cache(self.path)
        try:
            with cgroup(self.bytes + 4 * GIB) as group, disk.load(self.path, self.bench.sizes.seconds + 3) as load:
                record = self.bench.run(self.command(group), group)
        except (OSError, CannotRun) as why:
            return [rows.skipped(f"{self.name}_beside_reads", "tokens_per_s", str(why))]
        self.check_tokens("beside reads", record)
        self.loaded = (record["tokens_per_s"], load.bytes_per_s)
        self.sample_disk()
        note = (f"everything in memory, beside fio and without it: what the machine gives; fio read {load.bytes_per_s / 1e9:.2f} GB/s, "
                f"alone {self.disk_rate / 1e9:.2f}")
        return [rows.row(f"{self.name}_beside_reads", "tokens_per_s", [record["tokens_per_s"]], "alone", [self.compute_rate], note)]

    def sample_disk(self):
        machine.drop_cache(self.path)
        self.bench.quiet()
        self.disk_rate = max(self.disk_rate, disk.bytes_per_s(self.path))

    def limit(self, ratio):
        return int(self.bytes / ratio) + self.own_bytes + SLACK

    def prepare(self, ratio):
        machine.drop_cache(self.path)
        self.bench.settle(self.limit(ratio))

    def kernel(self, ratio, wait_policy, *options):
        self.prepare(ratio)
        with cgroup(self.limit(ratio)) as group:
            record = self.bench.run(self.command(group, *options), group, wait_policy, timeout_s=400)
        return self.check_tokens("kernel " + " ".join(options), record)

    def served(self, ratio, wait_policy):
        self.prepare(ratio)
        budget = int(self.bytes / ratio) // (2 * MIB) * 2 * MIB
        before = machine.disk_bytes_read(self.path)
        with cgroup(self.limit(ratio)) as group, self.bench.tierd(group, budget) as tierd:
            record = self.bench.run(tierd.client(self.command(group)), group, wait_policy, timeout_s=400)
            status = tierd.status()
            if group.peak_bytes() > group.limit_bytes:
                raise Failed(f"the cgroup held {group.peak_bytes()} bytes, more than {group.limit_bytes}")
        self.bench.check_served(status)
        record["counters"], record["disk_bytes"] = status["counters"], (machine.disk_bytes_read(self.path) or before or 0) - (before or 0)
        return self.check_tokens("tierd", record)

    def modes(self, ratio):
        """llama.cpp's other ways under this limit, once each: what the best of them gives. Those that were refused at a
        milder limit are not tried again."""
        best = {}
        for name, options in MODES.items():
            if name in self.refused or (name == "moe_cache" and self.name == "dense"):
                continue
            try:
                best[name] = self.kernel(ratio, "passive", *options)
            except (CannotRun, Failed) as why:
                self.refused[name] = str(why)
        return best

    def at(self, ratio, wait_policy, others):
        ours, kernel = [], []
        suffix = "" if wait_policy == "passive" else f"_omp_{wait_policy}"
        prefix = f"{self.name}_{ratio}"
        try:
            for _ in range(self.bench.sizes.past_ram_runs):
                self.sample_disk()
                ours.append(self.served(ratio, wait_policy))
                kernel.append(self.kernel(ratio, wait_policy))
        except CannotRun as why:  # the other rows are worth having all the same
            return [rows.skipped(f"{prefix}_vs_mmap{suffix}", "tokens_per_s", f"{'the peer' if len(ours) > len(kernel) else 'tierd'}: {why}")]
        rate = lambda records: [record["tokens_per_s"] for record in records]
        note = self.note(ours, kernel)
        best_name = max(others, key=lambda name: others[name]["tokens_per_s"], default=None)
        peer, peer_rates = "kernel mmap", rate(kernel)
        if best_name and others[best_name]["tokens_per_s"] > statistics.median(rate(kernel)):
            peer, peer_rates = f"llama.cpp {best_name}", [others[best_name]["tokens_per_s"]] * len(ours)
        found = [rows.row(f"{prefix}_vs_mmap{suffix}", "tokens_per_s", rate(ours), "kernel mmap", rate(kernel), note)]
        if self.name != "dense":
            scope = f"modes of llama.cpp that ran: {', '.join(others) or 'none'}, once each" if self.bench.sizes.modes else \
                "beside the kernel's mapping alone: the other modes run in the full benchmark"
            found.append(rows.row(f"{prefix}_vs_best{suffix}", "tokens_per_s", rate(ours), peer, peer_rates, f"{scope}; {note}"))
        return found + self.bound_rows(prefix, ratio, ours, suffix)

    def note(self, ours, kernel):
        last = ours[-1]["counters"]
        return (f"{len(ours[-1]['tokens'])} tokens, peer {len(kernel[-1]['tokens'])}; read per token "
                f"{ours[-1]['bytes_per_token'] / MIB:.0f} MiB, peer {kernel[-1]['bytes_per_token'] / MIB:.0f} MiB; until the first token "
                f"{ours[-1]['ttft_s']:.1f} s, peer {kernel[-1]['ttft_s']:.1f} s; fills {last['fills_demand']} on demand, "
                f"{last['fills_read_ahead']} ahead, {last['fills_wasted']} in vain")

    def bound_rows(self, prefix, ratio, ours, suffix):
        least = bound.belady_bytes_per_token(bound.load_trace(self.trace), int(self.bytes / ratio))
        most = bound.tokens_per_s(least, self.disk_rate, self.compute_rate)
        rates = [record["tokens_per_s"] for record in ours]
        read = [record["bytes_per_token"] for record in ours]
        note = (f"{least / MIB:.0f} MiB a token at {self.disk_rate / 1e9:.2f} GB/s; computing alone "
                f"{self.compute_rate:.2f} tokens/s")
        if statistics.median(rates) > most:
            note = f"{rows.INVALID}; {note}"
        found = [rows.row(f"{prefix}_vs_bound{suffix}", "tokens_per_s", rates, "clairvoyant bound", [most] * len(rates), note)]
        if self.loaded:
            compute_rate, disk_rate = self.loaded
            less = bound.tokens_per_s(least, disk_rate, compute_rate)
            found.append(rows.row(f"{prefix}_vs_loaded_bound{suffix}", "tokens_per_s", rates, "bound side by side", [less] * len(rates),
                                  f"the same bytes at {disk_rate / 1e9:.2f} GB/s and {compute_rate:.2f} tokens/s, as measured side by side"))
        if least > 0:
            found.append(rows.row(f"{prefix}_read_vs_belady{suffix}", "bytes_per_token", read, "Belady", [least] * len(read), note, 0))
        return found


def one_model(bench, name):
    work = PastRam(bench, name)
    work.resident()
    found = work.side_by_side() if bench.sizes.modes else []
    for ratio in bench.sizes.ratios:
        bench.say(f"past_ram: {name} with memory for 1/{ratio} of it")
        others = work.modes(ratio) if bench.sizes.modes else {}
        for wait_policy in bench.sizes.wait_policies:
            found += work.at(ratio, wait_policy, others)
        found += [rows.row(f"{name}_{ratio}_peer_{mode}", "tokens_per_s", [record["tokens_per_s"]],
                           note="a peer's own value") for mode, record in others.items()]
    found += [rows.skipped(f"{name}_peer_{mode}", "tokens_per_s", why) for mode, why in work.refused.items()]
    return found


def run(bench):
    return [row for name in MODELS for row in one_model(bench, name)]
