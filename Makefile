# The front door: every habit in one word. All it knows is which script or preset to call.
.DEFAULT_GOAL := build
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
JOBS ?= $(shell nproc)
CLANG_FORMAT ?= clang-format-19
SOURCES = git ls-files -z --cached --others --exclude-standard -- '*.cc' '*.h' '*.c' ':!*.bpf.c'

.PHONY: build test demo lint fmt fuzz clean help deps venv configure

build: deps configure  ## compile everything into build/ (programs: build/bin, the preloaded library: build/lib)
	cmake --build build -j $(JOBS)

test: build venv       ## all tests; the last lines are ctest's
	ctest --test-dir build --output-on-failure

demo: build venv       ## real engines with and without tierd; figures go to build/demo/report.json
	build/venv/bin/python scripts/demo.py

lint:                  ## is the code formatted by clang-format 19?
	scripts/install-deps.sh lint
	$(SOURCES) | xargs -0 -r $(CLANG_FORMAT) --dry-run --Werror

fmt:                   ## format the code
	scripts/install-deps.sh lint
	$(SOURCES) | xargs -0 -r $(CLANG_FORMAT) -i

fuzz:                  ## feed broken files, messages and requests to all that reads them, FUZZ_SECONDS each (60)
	scripts/install-deps.sh fuzz
	scripts/fuzz.sh

clean:                 ## remove what was built; the downloaded engines (build/venv*) stay
	if [[ -d build ]]; then find build -mindepth 1 -maxdepth 1 ! -name 'venv*' -exec rm -rf {} +; fi

help:                  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

deps:
	scripts/install-deps.sh
venv: deps
	scripts/make-venv.sh
configure: deps
	cmake --preset release

-include bench/bench.mk
