#!/usr/bin/env python3
"""Joins entries.txt with the declarations of cuda.h: writes the table of the driver's functions, the wrappers that need no
hand, and the list of exported symbols.

    generate.py --cpp "g++ -I..." --entries entries.txt --exports host/exports.map --out FOLDER

The page for people, docs/cuda-coverage.md, is tests/cuda/coverage.py's, which takes declarations and decisions from here.
Everything comes from the preprocessed header, so a newer toolkit brings its newer functions along.
"""

import argparse
import pathlib
import re
import shlex
import subprocess

DECLARATION = re.compile(r"CUresult\s+(cu\w+)\s*\(([^;]*?)\)\s*;")
TYPEDEF = re.compile(r"\bPFN_(cu\w+?)_v(\d+)(_ptds|_ptsz)?\)")
SCANNED = {"CUDA_MEMCPY2D", "CUDA_MEMCPY3D", "CUDA_MEMCPY3D_PEER", "CUDA_RESOURCE_DESC"}  # structures with addresses in them
ACTIONS = {"own", "launch", "access", "pin", "all", "learn", "forget", "pass"}


def preprocess(cpp, header):
    source = f"#include <{header}>\n"
    command = shlex.split(cpp) + ["-E", "-P", "-x", "c++", "-D__CUDA_API_VERSION_INTERNAL", "-DCUDA_ENABLE_DEPRECATED", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


def split_parameter(text):
    """'const void *srcHost' to ('const void *', 'srcHost')"""
    kind, star, name = re.match(r"(.*?)(\**)\s*(\w+)$", text.strip(), re.S).groups()
    return (kind.strip() + " " + star).strip(), name


class Function:
    def __init__(self, name, parameters):
        self.name = name
        self.variant = next((s for s in ("_ptds", "_ptsz") if name.endswith(s)), "")
        self.stem = name.removesuffix(self.variant)  # cuMemcpyHtoD_v2
        self.base = re.sub(r"_v\d+$", "", self.stem)  # cuMemcpyHtoD
        inside = " ".join(parameters.split())
        self.parameters = [] if inside in ("", "void") else [split_parameter(p) for p in inside.split(",")]

    def addresses(self):
        """The expressions that tell the gate what is reached, as (call, arguments)."""
        for kind, name in self.parameters:
            if kind == "CUdeviceptr" or (kind == "void *" and name == "globalAddress"):
                yield f"address(reinterpret_cast<uint64_t>({name}))" if "*" in kind else f"address({name})"
            elif kind.startswith("const ") and kind.endswith(" *") and kind[6:-2] in SCANNED:
                yield f"bytes({name}, sizeof *{name})"

    def is_old(self):
        return any(re.search(r"CUdeviceptr_v1|(MEMCPY2D|MEMCPY3D|ARRAY_DESCRIPTOR|ARRAY3D_DESCRIPTOR)_v1", kind)
                   for kind, _ in self.parameters)

    def stream(self):
        found = [name for kind, name in self.parameters if kind == "CUstream"]
        per_thread = "true" if self.variant else "false"
        return f"stream_of({found[-1]}, {per_thread})" if found else f"no_stream({per_thread})"

    def signature(self):
        return ", ".join(f"{kind} {name}" for kind, name in self.parameters)

    def names(self):
        return ", ".join(name for _, name in self.parameters)


def read_rules(path):
    rules = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, action, reason = line.split(None, 2)
        if action not in ACTIONS:
            raise SystemExit(f"{path}:{number}: {action} is none of {sorted(ACTIONS)}")
        if reason == "the same":
            reason = rules[-1][2]
        rules.append((re.compile(pattern + r"\Z"), action, reason))
    return rules


def rule_for(stem, rules):
    """(action, reason) of the first rule that fits, or None."""
    return next(((action, reason) for pattern, action, reason in rules if pattern.match(stem)), None)


def decide(function, rules):
    if function.is_old():
        return "pass", "has the 32-bit types of CUDA 3.1"
    if ruled := rule_for(function.stem, rules):
        return ruled
    if any(True for _ in function.addresses()):
        return "pin", "takes a device address and may keep it"
    return "pass", "takes no device address"


def wrapper(f, action):
    head = (f'extern "C" TIERD_EXPORT CUresult {f.name}({f.signature()}) {{\n'
            f"    auto* real = real_function<decltype(::{f.name})>(Entry::{f.name});\n"
            "    if (real == nullptr) return CUDA_ERROR_NOT_INITIALIZED;\n")
    call = f"real({f.names()})"
    if action in ("own", "launch"):
        per_thread = "true" if f.variant else "false"
        if action == "launch":
            head += f"    if (FastPath path; path.is_open()) return {call};\n"
        return head + f"    return own::{f.stem}({{real, {per_thread}}}, {f.names()});\n}}\n"
    if action in ("access", "pin", "all"):
        lines = [f"    LaunchScope scope({f.stream()});"]
        lines += [f"    scope.{action}_{a};" for a in f.addresses()] if action != "all" else ["    scope.all();"]
        return head + "\n".join(lines) + (
            "\n    if (CUresult refused = scope.enter(); refused != CUDA_SUCCESS) return refused;\n"
            f"    return {call};\n}}\n")
    if action == "learn":
        return head + (f"    CUresult result = {call};\n"
                       "    if (result == CUDA_SUCCESS) learn_graph(*phGraphExec, hGraph);\n    return result;\n}\n")
    return head + f"    forget_graph(hGraphExec);\n    return {call};\n}}\n"


def versions_of(typedefs, functions):
    """What cuGetProcAddress means by a version: (entry, version), where the header's lists agree in length."""
    found = {}
    for base, version, variant in TYPEDEF.findall(typedefs):
        found.setdefault((base, variant), set()).add(int(version))
    rows = []
    for (base, variant), versions in found.items():
        stems = [f for f in functions if f.base == base and f.variant == variant]
        stems.sort(key=lambda f: int(f.stem[len(base) + 2:] or 1))
        if len(stems) == len(versions):
            rows += [(f.name, v) for f, v in zip(stems, sorted(versions))]
    return dict(rows)


def write_table(out, functions, decisions, versions):
    lines = ["// Generated by cuda_shim/cuda/generate.py from cuda.h.", "#pragma once", "#include <stdint.h>",
             "namespace tierd::shim::cuda {", "enum class Entry : uint32_t {"]
    lines += [f"    {f.name}," for f in functions]
    lines += ["    count", "};", "}  // namespace tierd::shim::cuda"]
    (out / "cuda_entries.h").write_text("\n".join(lines) + "\n")
    lines = ["// Generated by cuda_shim/cuda/generate.py from cuda.h and entries.txt.",
             '#include "cuda_shim/cuda/wrappers.h"', ""]
    lines += [wrapper(f, decisions[f.name][0]) for f in functions if decisions[f.name][0] != "pass"]
    lines += ["namespace tierd::shim::cuda {", "const EntryRow kEntryRows[] = {"]
    for f in functions:
        ours = f"reinterpret_cast<void*>(&::{f.name})" if decisions[f.name][0] != "pass" else "nullptr"
        lines.append(f'    {{"{f.name}", {len(f.base)}, {str(bool(f.variant)).lower()}, {versions.get(f.name, 0)}, {ours}}},')
    lines += ["};", "}  // namespace tierd::shim::cuda"]
    (out / "cuda_wrappers.cc").write_text("\n".join(lines) + "\n")


def write_exports(out, host, functions, decisions):
    names = ["dlsym", "dlvsym", "read", "pread", "pread64", "fread"] + [f.name for f in functions if decisions[f.name][0] != "pass"]
    text = host.read_text().replace("  local:", "".join(f"    {name};\n" for name in names) + "  local:", 1)
    (out / "exports.map").write_text(text)


def load(cpp, rules):
    """Every function of cuda.h by name, what is decided for each, and what cuGetProcAddress means by a version."""
    found = {}
    for name, parameters in DECLARATION.findall(preprocess(cpp, "cuda.h")):
        found.setdefault(name, Function(name, parameters))
    functions = [found[name] for name in sorted(found)]
    decisions = {f.name: decide(f, rules) for f in functions}
    return functions, decisions, versions_of(preprocess(cpp, "cudaTypedefs.h"), functions)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpp", required=True)
    parser.add_argument("--entries", type=pathlib.Path, required=True)
    parser.add_argument("--exports", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    functions, decisions, versions = load(options.cpp, read_rules(options.entries))
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out, functions, decisions, versions)
    write_exports(options.out, options.exports, functions, decisions)


if __name__ == "__main__":
    main()
