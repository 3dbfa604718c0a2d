# The front door: every habit in one word. All it knows is which script or preset to call.
.DEFAULT_GOAL := build
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
JOBS ?= $(shell nproc)
CLANG_FORMAT ?= clang-format-19
SOURCES = git ls-files -z --cached --others --exclude-standard -- '*.cc' '*.h' '*.c' ':!*.bpf.c'

.PHONY: build test test-asan test-tsan coverage fuzz-sim demo demo-gpu lint fmt fuzz fuzz-api clean help deps venv cuda configure

build: deps configure  ## compile everything into build/ (programs: build/bin, the preloaded library: build/lib)
	cmake --build build -j $(JOBS)

test: build venv       ## all tests; the last lines are ctest's
	ctest --test-dir build --output-on-failure

demo-gpu: build        ## three models on a GPU that fits one, with and without tierd; a simulated GPU unless a real one is there
	python3 scripts/demo_gpu.py

test-asan:             ## the tests with the address and undefined-behaviour sanitizers (not part of test: it takes long)
	scripts/install-deps.sh
	scripts/test-sanitized.sh asan

test-tsan:             ## the tests with the thread sanitizer (not part of test: it takes long)
	scripts/install-deps.sh
	scripts/test-sanitized.sh tsan

coverage:              ## which lines of lib/ and cuda_shim/ the tests run; writes build/coverage/coverage.json (takes long)
	scripts/install-deps.sh coverage
	scripts/coverage.sh

fuzz-sim: deps configure  ## 100 000 simulated machines (FUZZ_SEEDS), from another seed each time (FUZZ_FIRST)
	cmake --build build -j $(JOBS) --target engine_simulation
	build/tests/engine_simulation --seeds $${FUZZ_SEEDS:-100000} --first $${FUZZ_FIRST:-$$(date +%s)000000} --jobs $(JOBS)

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

fuzz-api: build        ## ask the control API all that its description allows and forbids, for FUZZ_SECONDS (60)
	scripts/make-fuzz-api-venv.sh
	python3 scripts/fuzz_api.py --seconds $${FUZZ_SECONDS:-60}

clean:                 ## remove what was built; what was downloaded (build/venv*, build/cuda) stays
	if [[ -d build ]]; then find build -mindepth 1 -maxdepth 1 ! -name 'venv*' ! -name cuda -exec rm -rf {} +; fi

help:                  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

deps:
	scripts/install-deps.sh
venv: deps
	scripts/make-venv.sh
cuda: deps
	scripts/make-cuda.sh
configure: deps cuda
	cmake --preset release

-include bench/bench.mk
