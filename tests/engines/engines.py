"""What the engine tests stand on: the environment with the engines, the models in it, and ways to run them.

TIERD_BUILD_DIR (from ctest) is where tierd was built, TIERD_VENV the environment that scripts/make-venv.sh makes.
A test program calls main(); where the environment is missing it is skipped (77) with the reason.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TIERD_BUILD_DIR", ROOT / "build"))
VENV = pathlib.Path(os.environ.get("TIERD_VENV", ROOT / "build" / "venv"))
PYTHON = VENV / "bin" / "python"
SHIM = BUILD / "lib" / "libtierd_shim.so"
LIMIT_S = 120  # no run takes as long; who hangs fails by it


def main():
    if not (VENV / ".tierd-engines").exists():
        print(f"skipped: {VENV} has no engines; scripts/make-venv.sh makes it")
        sys.exit(77)
    unittest.main(verbosity=2)


def run(command, environment=None):
    """Runs it to its end in an environment without tierd, but for what is given. Returns its standard output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIERD_") and name != "LD_PRELOAD"}
    ended = subprocess.run([str(word) for word in command], env=clean | (environment or {}), capture_output=True,
                           text=True, timeout=LIMIT_S)
    if ended.returncode != 0:
        raise AssertionError(f"{command} ended with status {ended.returncode}:\n{ended.stderr}")
    return ended.stdout


def preloaded(socket_path):
    return {"LD_PRELOAD": str(SHIM), "TIERD_SOCKET": str(socket_path)}


def under_tierd(command, *options):
    """Runs it with a private tierd. Returns its output and tierd's status at the end."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "status.json"
        output = run([BUILD / "bin" / "tierd-run", "--private", *options, "--report", report, "--", *command],
                     {"XDG_STATE_HOME": folder})
        return output, json.loads(report.read_text())


def gguf_model():
    """The demo's model, put together from its parts by the first who asks."""
    return run([PYTHON, "-c", "import sys, pathlib; sys.path[:0] = sys.argv[1:2]; import demo;"
                "print(demo.make_model(pathlib.Path(sys.argv[2])))", ROOT / "scripts", model_folder()]).strip()


def model_folder():
    folder = BUILD / "demo"
    folder.mkdir(exist_ok=True)
    return folder


def sentence_model():
    """A copy of its own, so that no page of it is in the cache because of others."""
    source = run([PYTHON, "-c", "import sys; sys.path[:0] = sys.argv[1:2]; import demo; print(demo.sentence_model())",
                  ROOT / "scripts"]).strip()
    copy = model_folder() / "sentence.safetensors"
    if not copy.exists() or copy.stat().st_size != pathlib.Path(source).stat().st_size:
        shutil.copyfile(source, copy)
    return str(copy)


@contextlib.contextmanager
def hostile_socket(accepts):
    """A session socket of somebody who never answers. `accepts` False: nor does it take connections, and its queue is full."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        path = os.path.join(folder, "tierd.sock")
        listener.bind(path)
        listener.listen(16 if accepts else 0)
        queued = []
        with contextlib.ExitStack() as stack:
            if not accepts:
                queued = fill_queue(path, stack)
                assert queued, "a queue of length 0 takes at least one connection"
            yield path


def fill_queue(path, stack):
    queued = []
    while True:
        client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        client.setblocking(False)
        try:
            client.connect(path)
        except BlockingIOError:
            return queued
        queued.append(client)
