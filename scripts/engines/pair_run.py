"""Two runs of llama.cpp at once: the second starts when the first has its first token, and attaches to the same tierd.

pair_run.py [--] ARGUMENTS-OF-llama_run.py. Writes one JSON object a line: {"first": {...}, "second": {...}}, each as
llama_run.py says it. Exit status: 0; 1 when either run failed.
"""

import json
import pathlib
import subprocess
import sys

LLAMA_RUN = pathlib.Path(__file__).with_name("llama_run.py")


def start(arguments):
    return subprocess.Popen([sys.executable, LLAMA_RUN, *arguments, "--hold"], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)


def next_event(process, kind):
    for line in process.stdout:
        record = json.loads(line)
        if record["event"] == kind:
            return record
    sys.exit(f"pair_run: a run ended with status {process.wait()} before its {kind}")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--"]
    first = start(arguments)
    next_event(first, "first_token")
    second = start(arguments)
    results = {"first": next_event(first, "done"), "second": next_event(second, "done")}
    for process in (first, second):  # both kept the model until here
        process.stdin.close()
        if process.wait() != 0:
            sys.exit(f"pair_run: a run ended with status {process.returncode}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
