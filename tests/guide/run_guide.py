"""Runs a guide: writes the files that it shows, types its commands, and compares what they print.

usage: run_guide.py GUIDE.md BUILD_DIR

A block ```LANG NAME is the file NAME. In a block ```console each line "$ ..." is typed into one shell, and the lines
beneath must come in that order among what it prints; … stands for anything. A command must succeed, unless a line that is
shown of it begins with "tierctl: ". Exit status: 0 all is as shown, 1 something is not, 77 this machine can't run it.
"""
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time

COMMAND_SECONDS = 60


def blocks(text):
    """(language, name, lines, line number) of each fenced block."""
    found, open_block = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if open_block is not None:
            if line.startswith("```"):
                found.append(open_block)
                open_block = None
            else:
                open_block[2].append(line)
        elif match := re.match(r"```(\w+)(?: (\S+))?$", line):
            open_block = (match[1], match[2], [], number)
        elif line.startswith("```"):
            raise SystemExit(f"line {number}: a block of no kind, so nothing runs it")
    return found


def commands(block):
    """(command, shown lines, line number) of a console block."""
    steps = []
    for offset, line in enumerate(block[2], 1):
        if line.startswith("$ "):
            steps.append((line[2:], [], block[3] + offset))
        elif line:
            steps[-1][1].append(line)
    return steps


def matches(shown, line):
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, line.rstrip()) is not None


def first_missing(shown, printed):
    """The first shown line that does not come, in order, in what was printed."""
    lines = iter(printed.splitlines())
    for want in shown:
        if not any(matches(want, line) for line in lines):
            return want
    return None


class Shell:
    def __init__(self, folder):
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(["bash", "--norc", "--noprofile"], cwd=folder, env=environment, text=False,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        start_new_session=True)
        self.say("set -m\n")

    def say(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def run(self, command):
        """What it printed, and its exit status."""
        mark = f"@end-{time.monotonic_ns()}"
        self.say(f"{command}\necho {mark} $?\n")
        end = re.compile(re.escape(mark.encode()) + rb" (\d+)\n")
        printed, deadline = b"", time.monotonic() + COMMAND_SECONDS
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while not (match := end.search(printed)):
                if not ready.select(max(0, deadline - time.monotonic())):
                    raise SystemExit(f"no end after {COMMAND_SECONDS} s: {command}\n{printed.decode(errors='replace')}")
                chunk = os.read(self.process.stdout.fileno(), 65536)
                if not chunk:
                    raise SystemExit(f"the shell ended in: {command}\n{printed.decode(errors='replace')}")
                printed += chunk
        return printed[:match.start()].decode(errors="replace"), int(match[1])

    def working_folder(self):
        return self.run("pwd")[0].strip()

    def close(self):
        # Jobs have process groups of their own under set -m.
        jobs, _ = self.run("jobs -p")
        for group in jobs.split():
            try:
                os.killpg(int(group), signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.stdin.close()
        self.process.wait()


def run_guide(guide, shell):
    failures = 0
    for block in blocks(guide):
        if block[1]:
            with open(os.path.join(shell.working_folder(), block[1]), "w") as file:
                file.write("\n".join(block[2]) + "\n")
            continue
        if block[0] != "console":
            continue
        for command, shown, number in commands(block):
            printed, status = shell.run(command)
            print(f"{number}: $ {command}\n{printed}", end="", flush=True)
            missing = first_missing(shown, printed)
            may_fail = any(line.startswith("tierctl: ") for line in shown)
            if missing is not None or (status != 0) != may_fail:
                failures += 1
                print(f"*** line {number}: exit status {status}" +
                      (f", and this line is not as shown: {missing}" if missing is not None else ""), flush=True)
                return failures  # what follows builds on it
    return failures


def main():
    guide_path, build = map(os.path.abspath, sys.argv[1:])
    tierctl = os.path.join(build, "bin", "tierctl")
    check = subprocess.run([tierctl, "policy", "check", "fifo"], capture_output=True, text=True)
    if check.returncode != 0 and ("CAP_BPF" in check.stderr or "6.4" in check.stderr):
        print(f"skipped: policies can't be loaded here: {check.stderr.strip()}")
        return 77
    folder = tempfile.mkdtemp(prefix="guide-", dir=os.path.join(build, "tests"))
    source = os.path.dirname(os.path.dirname(guide_path))
    for name, target in {"build": build, "bench": os.path.join(source, "bench")}.items():
        os.symlink(target, os.path.join(folder, name))
    shell = Shell(folder)
    try:
        with open(guide_path) as file:
            failures = run_guide(file.read(), shell)
        if failures and os.path.exists(log := os.path.join(folder, "try", "tierd.log")):
            print(open(log).read())
        return 1 if failures else 0
    finally:
        shell.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
