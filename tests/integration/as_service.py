#!/usr/bin/env python3
"""Runs a command with the capabilities and system calls that a systemd unit leaves to its service, without systemd.

    as_service.py UNIT COMMAND...     becomes the command
    as_service.py UNIT                says whether this machine can do that: exit status 77, with the reason, where not

Of the unit, CapabilityBoundingSet=, NoNewPrivileges= and SystemCallFilter= (an allow list) hold; the command runs as root.
"""
import ctypes
import os
import re
import shutil
import subprocess
import sys

ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050001
BEHIND_SETPRIV = "TIERD_BEHIND_SETPRIV"


def setting(unit, key):
    with open(unit) as lines:
        values = [line.split("=", 1)[1].split() for line in lines if line.startswith(key + "=")]
    if not values:
        sys.exit(f"{unit} has no {key}=")
    return values[-1]


def calls_of(names):
    """The system calls behind names and @groups, as systemd has them."""
    calls, groups = set(), [name for name in names if name.startswith("@")]
    calls.update(name for name in names if not name.startswith("@"))
    seen = set()
    while groups:
        group = groups.pop()
        if group in seen:
            continue
        seen.add(group)
        listed = subprocess.run(["systemd-analyze", "syscall-filter", group], check=True, capture_output=True, text=True)
        for word in re.findall(r"^\s+([@\w-]+)$", listed.stdout, re.M):
            groups.append(word) if word.startswith("@") else calls.add(word)
    return calls


def seccomp():
    return ctypes.CDLL("libseccomp.so.2")


def hold_to(calls):
    library = seccomp()
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ERRNO_EPERM)))
    for call in calls:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # the rest is of other machines
            library.seccomp_rule_add(context, ctypes.c_uint32(ALLOW), number, 0)
    if library.seccomp_load(context) != 0:
        sys.exit("the filter can't be loaded")


def unavailable_reason():
    for program in ("systemd-analyze", "setpriv"):
        if not shutil.which(program):
            return f"there is no {program}"
    try:
        seccomp()
    except OSError:
        return "there is no libseccomp.so.2"
    if os.geteuid() != 0:
        return "it needs root"
    tried = subprocess.run([sys.executable, __file__, sys.argv[1], "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"the unit's rights can't be had here: {tried.stderr.strip()[-200:]}"


def main():
    unit, command = sys.argv[1], sys.argv[2:]
    if not command:
        reason = unavailable_reason()
        if reason:
            print(f"skipped: {reason}")
        sys.exit(77 if reason else 0)
    if not os.environ.get(BEHIND_SETPRIV):
        os.environ[BEHIND_SETPRIV] = "1"
        names = ",".join("+" + name.removeprefix("CAP_").lower() for name in setting(unit, "CapabilityBoundingSet"))
        os.execvp("setpriv", ["setpriv", f"--bounding-set=-all,{names}", "--inh-caps=-all", "--no-new-privs",
                              sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
    del os.environ[BEHIND_SETPRIV]
    hold_to(calls_of(setting(unit, "SystemCallFilter")))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
