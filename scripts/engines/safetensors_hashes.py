"""Reads every tensor of a safetensors file as an engine would, and writes {"name": "sha256 of its bytes", ...} as JSON."""

import hashlib
import json
import sys

import safetensors


def main():
    with safetensors.safe_open(sys.argv[1], framework="np") as file:
        hashes = {name: hashlib.sha256(file.get_tensor(name).tobytes()).hexdigest() for name in file.keys()}
    print(json.dumps(hashes))


if __name__ == "__main__":
    main()
