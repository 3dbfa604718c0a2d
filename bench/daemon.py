"""A tierd for one run, in the same cgroup as the engine that it serves, and what its control API tells."""

import http.client
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.parse


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.unix_path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


class Tierd:
    """Runs from __enter__ to __exit__. Files of its own lie in a temporary folder; `state` outlives it (learned orders).
    `cgroup` None: it stays in the caller's."""

    def __init__(self, programs, cgroup, budget_bytes, state, options=()):
        self.programs, self.cgroup, self.budget_bytes = pathlib.Path(programs), cgroup, budget_bytes
        self.state, self.options = state, options

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="tierd-bench-")
        folder = pathlib.Path(self.folder.name)
        self.session, self.control = folder / "session.sock", folder / "control.sock"
        ready, ready_end = os.pipe()
        command = [self.programs / "tierd", "--socket", self.session, "--control-socket", self.control, "--budget",
                   str(self.budget_bytes), "--state-dir", self.state, "--ready-fd", str(ready_end),
                   "--log-level", "warning", *self.options]
        self.process = subprocess.Popen([str(word) for word in command], pass_fds=[ready_end],
                                        preexec_fn=self.cgroup.enter if self.cgroup else None)
        os.close(ready_end)
        with os.fdopen(ready) as line:
            if not line.readline():
                raise RuntimeError(f"tierd did not start, status {self.process.wait()}; its log is above")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def client(self, command):
        """The command, run with this tierd."""
        return [self.programs / "tierd-run", "--socket", self.session, "--", *command]

    def ask(self, method, path, body=None):
        connection = UnixConnection(self.control)
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        text = json.loads(answer.read())
        connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"tierd: {text['error']['message']}; {text['error']['hint']}")
        return text

    def status(self):
        return self.ask("GET", "/v1/status")

    def models(self):
        return self.ask("GET", "/v1/models")["models"]

    def preload(self, path):
        """Blocks until the file is in memory. Looks more often than tierctl does, so as not to measure the looking."""
        job = self.ask("POST", f"/v1/models/{urllib.parse.quote(str(path), safe='')}/preload")
        while not job["finished"]:
            time.sleep(0.002)
            job = self.ask("GET", f"/v1/jobs/{job['job']}")
        if job["error"]:
            raise RuntimeError(f"preload: {job['error']}")

    def tensors(self, path):
        return self.ask("GET", f"/v1/models/{urllib.parse.quote(str(path), safe='')}/tensors")
