#!/usr/bin/env python3
"""Asks a tierd of its own whatever docs/openapi.json allows, and what it forbids, and holds every answer against it.

    fuzz_api.py [--seconds N] [--seed S] [--build FOLDER]

schemathesis makes up the requests; a proxy takes them to the control socket. An answer of 500 and above (but 503, "try
again"), one that the description does not know, one that is not of its schema, a wrong request that is done, a method that is
not refused: each is a failure. So is a tierd that ended. The last line counts; what failed lies in build/fuzz-api.
Not held against it: that a right request is refused (whether a size fits or a node is there is the machine's affair), and that
a job that was cancelled can be looked at.
Exit status: 0 nothing found; 1 otherwise.
"""
import argparse
import collections
import json
import os
import pathlib
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20


class Proxy(socketserver.ThreadingTCPServer):
    """Carries bytes between a TCP port of this machine and the control socket."""
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, control):
        self.control = str(control)
        super().__init__(("127.0.0.1", 0), Carrier)


class Carrier(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.socket(socket.AF_UNIX) as tierd:
            tierd.connect(self.server.control)
            back = threading.Thread(target=carry, args=(tierd, self.request), daemon=True)
            back.start()
            carry(self.request, tierd)
            back.join()


def carry(source, sink):
    try:
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def write_model(path, layers):
    """A safetensors file whose layers have a tensor of 1 MiB each."""
    header, at = {}, 0
    for layer in range(layers):
        header[f"model.layers.{layer}.mlp.up_proj.weight"] = {"dtype": "U8", "shape": [MIB], "data_offsets": [at, at + MIB]}
        at += MIB
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def start_tierd(build, folder):
    ready, tell = os.pipe()
    command = [build / "bin" / "tierd", "--socket", folder / "tierd.sock", "--control-socket", folder / "control.sock",
               "--state-dir", folder / "state", "--budget", "64MiB", "--extent", "1MiB", "--ready-fd", str(tell)]
    with open(folder / "tierd.log", "wb") as log:
        tierd = subprocess.Popen([str(word) for word in command], stderr=log, pass_fds=[tell])
    os.close(tell)
    if not os.read(ready, 1):
        sys.exit(f"tierd did not start:\n{(folder / 'tierd.log').read_text()}")
    return tierd


def with_names(folder, models):
    """The description, with examples of names that are there: without them hardly a request would find anything."""
    description = json.loads((ROOT / "docs" / "openapi.json").read_text())
    for path, methods in description["paths"].items():
        names = {"/v1/models/{name}": models, "/v1/tiers/{name}": ["dram0"], "/v1/jobs/{job}": [1]}
        known = next((list_ for start, list_ in names.items() if path.startswith(start)), None)
        for method in methods.values():
            for parameter in method.get("parameters", []) if known else []:
                parameter["examples"] = {str(i): {"value": str(name) if path.startswith("/v1/models") else name}
                                         for i, name in enumerate(known)}
    where = folder / "openapi.json"
    where.write_text(json.dumps(description))
    return where


def summary(events):
    """Requests by operation and status, out of schemathesis's stream of events."""
    statuses, count = collections.Counter(), 0
    for line in events.read_text().splitlines():
        event = json.loads(line)
        for scenario in event.values():
            recorder = scenario.get("recorder") if isinstance(scenario, dict) else None
            for exchange in (recorder or {}).get("interactions", {}).values():
                count += 1
                if exchange.get("response"):
                    statuses[exchange["response"]["status_code"]] += 1
    return count, statuses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    said = parser.parse_args()
    out = ROOT / "build" / "fuzz-api"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    venv = pathlib.Path(os.environ.get("VENV", ROOT / "build" / "venv-fuzz-api"))
    with tempfile.TemporaryDirectory(prefix="tierd-fuzz-api-") as name:
        folder = pathlib.Path(name)
        models = [folder / "first.safetensors", folder / "second.safetensors"]
        for layers, model in zip((8, 24), models):
            write_model(model, layers)
        tierd = start_tierd(said.build, folder)
        try:
            with Proxy(folder / "control.sock") as proxy:
                threading.Thread(target=proxy.serve_forever, daemon=True).start()
                asked = subprocess.run(
                    [venv / "bin" / "st", "run", with_names(folder, models), "--url", f"http://127.0.0.1:{proxy.server_address[1]}",
                     "--checks", "all", "--exclude-checks", "positive_data_acceptance,use_after_free", "--max-time", str(said.seconds), "--seed", str(said.seed), "--continue-on-failure",
                     "--generation-database", "none", "--no-color", "--report", "ndjson", "--report-dir", out,
                     "--report-ndjson-path", out / "events.ndjson"], cwd=out)
                proxy.shutdown()
            ended = tierd.poll()
        finally:
            tierd.terminate()
            tierd.wait()
            shutil.copy(folder / "tierd.log", out / "tierd.log")
    count, statuses = summary(out / "events.ndjson")
    print(f"{count} requests: " + ", ".join(f"{n} answered {status}" for status, n in sorted(statuses.items())))
    if ended is not None:
        print(f"tierd ended with status {ended}: build/fuzz-api/tierd.log")
    sys.exit(1 if asked.returncode or ended is not None else 0)


if __name__ == "__main__":
    main()
