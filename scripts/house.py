#!/usr/bin/env python3
"""Measures the structure of the code and writes docs/results/house.md.

  scripts/house.py            print the report
  scripts/house.py --record   write docs/results/house.md
  scripts/house.py --check    exit 1 where a class is over a limit that has no reason in REASONS
  --before REV                compare own lines with that commit (default: the one in BEFORE)

Members, methods and files are counted in the text of headers and sources: a member is a declaration of data at the class's own
level, a method one with a parameter list. Collaborators are the project's headers that the class's header includes.
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("lib", "daemon", "cli", "cuda_shim")
MOST_MEMBERS, MOST_METHODS, MOST_FILES = 25, 45, 2
BEFORE = "d831462"  # the last commit with the engine in one class

# Who is above a limit, and why that stays.
REASONS = {
    "Placement": "the one face of lib/placement: each call is a few lines that join its owners",
    "ThreadedEngine": "implements the interfaces Control and SessionHandler, a forwarding call each",
    "AdaptivePolicy": "three ways of holding extents and the shares between models in one class",
}

# The way of a demand miss, in the order in which a reader meets the files.
MISS = [
    ("lib/engine/loop.cc", "on_event: a client's userfaultfd is readable"),
    ("lib/engine/fault_server.cc", "serve, handle: the extent is not resident, so the thread waits"),
    ("lib/placement/fill_queue.cc", "demand: the extent is queued"),
    ("lib/placement/placement.cc", "accessed: the touch is counted, and what the policy proposes is carried out"),
    ("lib/placement/policy_host.cc", "accessed, reclaim: the policy is asked"),
    ("lib/placement/filler.cc", "pump, start: memory is granted and the read begins"),
    ("lib/placement/evictor.cc", "make_room: when no memory is free"),
    ("lib/engine/kernel_backend.cc", "read, on_completion: the bytes come, the file is unchanged"),
]
# Walked by hand from the fault to the mapped page, returns counted: loop, fault_server, filler, fill_queue, placement,
# policy_host, filler, evictor, policy_host, kernel_backend, loop, placement, filler, fault_server.
MISS_CHANGES = 13


def text_without_comments(text):
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def body_at(text, start):
    depth = 0
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + 1:at]
    return text[start + 1:]


def own_level(body):
    """The declarations of a class's own level: bodies of functions and nested types are cut out."""
    out, depth = [], 0
    for char in body:
        if char == "{":
            depth += 1
            if depth == 1:
                out.append("{}")
            continue
        if char == "}":
            depth -= 1
            if depth == 0:
                out.append(";")
            continue
        if depth == 0:
            out.append(char)
    return "".join(out)


def count(body):
    members = methods = 0
    level = re.sub(r"\b(public|private|protected)\s*:", "", own_level(body))
    for declaration in level.split(";"):
        line = " ".join(declaration.split())
        line = re.sub(r"^(\{\}|\s)+", "", line)
        if not line or re.match(r"(using|friend|static constexpr|static_assert|enum|class|struct|template|union)\b", line):
            methods += bool(re.match(r"template\b.*\(", line))
            continue
        without = re.sub(r"<[^<>]*(<[^<>]*>[^<>]*)*>", "", line)
        if not without.startswith("operator") and " operator" not in without:
            without = re.sub(r"\s*=.*$", "", without)
        if "(" in without and not re.search(r"=\s*\[", without):
            methods += 1
        elif re.search(r"[A-Za-z_]\w*(\[\w*\])*(\s*=.*|\{\})?$", without) and " " in without:
            members += 1 + without.count(", ")
    return members, methods


def classes():
    rows = []
    sources = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cc"):
                sources[path] = text_without_comments(path.read_text())
    definitions = {}
    for path, text in sources.items():
        for found in re.finditer(r"\b(?:class|struct)\s+(\w+)(?:\s+final)?(?:\s*:[^{;]+)?\s*\{", text):
            definitions.setdefault(found.group(1), []).append((path, body_at(text, found.end() - 1)))
    for name, places in definitions.items():
        for path, body in places:
            members, methods = count(body)
            if methods == 0 and members <= MOST_MEMBERS:
                continue  # a plain record
            files = {path} | {p for p, text in sources.items()
                              if p.parent == path.parent and re.search(rf"\b{name}::~?\w+\s*\([^;]*$", text, re.M)
                              and re.search(rf"^[^\s#/].*\b{name}::~?\w+\(", text, re.M)}
            includes = len(re.findall(r'^#include "', (path.read_text()), re.M))
            rows.append((name, str(path.relative_to(ROOT)), members, methods, len(files), includes))
    return sorted(rows, key=lambda row: (-row[2], -row[3]))


def has_commit(revision):
    return subprocess.run(["git", "cat-file", "-e", revision + "^{commit}"], cwd=ROOT, capture_output=True).returncode == 0


def own_lines(revision=None):
    def lines(text):
        return sum(1 for line in text.splitlines() if line.strip())
    total = 0
    listing = ["ls-tree", "-r", "--name-only", revision] if revision else ["ls-files", "--cached", "--others",
                                                                           "--exclude-standard"]
    names = subprocess.run(["git", *listing], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    for name in names:
        if not re.match(r"(lib|daemon|cli|cuda_shim|bpf|policies)/.*\.(h|cc|c|py)$", name):
            continue
        if revision:
            text = subprocess.run(["git", "show", f"{revision}:{name}"], cwd=ROOT, check=True,
                                  capture_output=True).stdout.decode()
        else:
            path = ROOT / name
            text = path.read_text() if path.exists() else ""
        total += lines(text)
    return total


def wrong_comments():
    checker = ROOT / "scripts/check-words.py"
    if not checker.exists():
        return None
    done = subprocess.run([sys.executable, str(checker)], cwd=ROOT, capture_output=True, text=True)
    return sum(1 for line in done.stdout.splitlines() if re.match(r"\S+:\d+: ", line))


def report(before):
    rows = classes()
    over = [r for r in rows if r[2] > MOST_MEMBERS or r[3] > MOST_METHODS or r[4] > MOST_FILES]
    out = ["# The structure of the code, counted", "",
           "Written by `scripts/house.py --record`. Classes of `lib/`, `daemon/`, `cli/` and `cuda_shim/` with methods.",
           f"Limits: {MOST_MEMBERS} members, {MOST_METHODS} methods, {MOST_FILES} files a class.", ""]
    out += [f"{len(rows)} classes; {len(over)} over a limit.", "", "## Over a limit", "",
            "| class | header | members | methods | files | why it stays |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for name, path, members, methods, files, _ in over:
        out.append(f"| {name} | {path} | {members} | {methods} | {files} | {REASONS.get(name, '**no reason given**')} |")
    out += ["", "## The largest within the limits", "",
            "| class | header | members | methods | files | included headers of ours |",
            "| --- | --- | ---: | ---: | ---: | ---: |"]
    for name, path, members, methods, files, includes in [r for r in rows if r not in over][:40]:
        out.append(f"| {name} | {path} | {members} | {methods} | {files} | {includes} |")
    out += ["", "## A demand miss", "",
            f"{len(MISS)} files, first entered in this order; control changes file {MISS_CHANGES} times, forth and back "
            "(before: 10 files of one class, 19 times).", ""]
    out += [f"{number}. `{path}`: {what}" for number, (path, what) in enumerate(MISS, 1)]
    now, then = own_lines(), own_lines(before) if has_commit(before) else 0
    out += ["", "## Own lines", "",
            f"{now} lines that are not empty (lib, daemon, cli, cuda_shim, bpf, policies); {then} at {before}: {now - then:+d}."]
    wrong = wrong_comments()
    if wrong is not None:
        out += ["", "## Wrong comments", "", f"{wrong} names in comments that the code does not have (`scripts/check-words.py`)."]
    return "\n".join(out) + "\n", [r for r in over if r[0] not in REASONS]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--before", default=BEFORE)
    options = parser.parse_args()
    for path, _ in MISS:
        if not (ROOT / path).exists():
            sys.exit(f"house.py: {path} is on the way of a demand miss and does not exist")
    text, unexplained = report(options.before)
    if options.record:
        (ROOT / "docs/results/house.md").write_text(text)
    else:
        print(text, end="")
    if options.check and unexplained:
        sys.exit("over a limit without a reason: " + ", ".join(row[0] for row in unexplained))


if __name__ == "__main__":
    main()
