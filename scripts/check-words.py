#!/usr/bin/env python3
"""Refuses two kinds of wrong words, with file and line:

  - words that the glossary has replaced, as identifiers (docs/glossary.md);
  - names in comments (foo_bar, FooBar, foo(), file.h) that exist nowhere in the code any more.

Prints `FILE:LINE: what` for each and exits 1. Takes a second or two.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What was said before, and what is said now.
REPLACED = {
    "HeatLedger": "HeatEstimator", "AddressBook": "MappingHistory", "DiskBook": "DiskRegistry", "LeaseDesk": "GpuArbitrator",
    "CardBook": "GpuLeaseTable", "CardWord": "LeaseUpdate", "PolicyConduct": "PolicyHealth", "Succession": "ExpertPredictor",
    "WorthVictims": "ScoreVictims", "worth": "score, or priority of a lease", "objection": "exit_reason",
    "tierd_mark": "tierd_extent_ctx", "tierd_lease_mark": "tierd_lease_ctx", "renew_page": "rearm_page",
    "show_touch": "arm_hint", "FallBackOrder": "FallBackCommand", "stood_still": "stalled", "unheard": "no_ack",
    "broken_rules": "protocol_error", "why_not": "unavailable_reason", "utmost_bytes": "overcommit_bytes",
    "Passage": "LaunchScope", "own_pages": "private_pages", "furnish": "apply_hello", "hand_over": "upgrade",
    "make_optimum": "make_belady", "replay_measure": "replay_reference", "overslept": "stalled", "EngineObserver": "TraceRecorder",
}

# Names of the kernel, of libraries and of file formats that our code does not spell out.
ELSEWHERE = set("""
shmem_enabled nr_overcommit_hugepages max_map_count free_page_reporting sched_vcpu_pack bpf_sys_bpf PyTorch vLLM llama_cpp
OpenAPI GitHub NumPy SQLite libcuda libcudart libstdc CUtensorMap gate_up_proj token_embd memory_order seq_cst std_atomic
key_l lane_l NAME.bpf.c cuda.h vmlinux.h btf.h arm_spe_pmu.c llama_decode ioctl_userfaultfd expand_fdtable SyncWriteStream SyncReadStream
MaxSize cuda_wrappers.cc pagemap_scan io_uring_enter pidfd_open dlopen_notify core_pattern userfaultfd_ctx mm_struct vm_area_struct perf_event_paranoid
""".split())

CODE = re.compile(r"\.(cc|h|c|bpf\.c)$")
TEXT = re.compile(r"\.(cc|h|c|py|sh|cmake|txt|toml|json|in|service|socket|mk|pml|md|conf)$|Makefile$")
COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|(//[^\n]*)|(/\*.*?\*/)', re.S)
NAME = re.compile(r"\b(?:[A-Za-z_][\w/]*(?:\.bpf)?\.(?:h|cc|c|py|sh)\b|[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b|[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+\b|"
                  r"[a-z_]\w*(?=\(\)))")


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        print("skipped: this is no checkout of the repository")
        sys.exit(77)
    names = [name for name in listed.stdout.split("\n") if (ROOT / name).is_file()]
    return [name for name in names if name and not name.startswith(("tests/fuzz/corpus", "docs/results"))]


def split(text):
    """The code with comments blanked out, and the comments as (line, text)."""
    comments = []

    def cut(found):
        comment = found.group(1) or found.group(2)
        if comment is None:
            return found.group(0)
        comments.append((text.count("\n", 0, found.start()) + 1, comment))
        return "\n" * comment.count("\n")

    return COMMENT.sub(cut, text), comments


def main():
    names = tracked()
    known = set()
    for name in names:  # files by their names, and by the names of what is built of them
        known.update({name, pathlib.PurePath(name).name, pathlib.PurePath(name).stem})
    commented = []
    wrong = []
    replaced = re.compile(r"\b(" + "|".join(map(re.escape, REPLACED)) + r")\b")
    for name in names:
        if not TEXT.search(name):
            continue
        text = (ROOT / name).read_text(errors="replace")
        if not CODE.search(name):
            known.update(re.findall(r"\w+", text))
            continue
        code, comments = split(text)
        known.update(re.findall(r"\w+", code))
        if name.startswith(("lib/", "daemon/", "cli/", "cuda_shim/", "bpf/", "policies/")):
            commented.append((name, comments))
            bare = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', code)
            for number, line in enumerate(bare.split("\n"), 1):
                for found in replaced.finditer(line):
                    wrong.append(f"{name}:{number}: {found.group(1)} is called {REPLACED[found.group(1)]} now")
    for name, comments in commented:
        for number, comment in comments:
            for found in NAME.finditer(comment):
                word = found.group(0)
                place = number + comment.count("\n", 0, found.start())
                plain = word.split("/")[-1]
                if plain in known or word in known or plain in ELSEWHERE or plain.rstrip("s") in known:
                    continue
                wrong.append(f"{name}:{place}: {word} is nowhere in the code")
    print("\n".join(wrong))
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
