# The benchmarks; included by the Makefile. What each writes and needs stands in bench/run.py.
.PHONY: bench bench-short bench-load bench-resident bench-past-ram bench-migrate bench-quick bench-sample bench-cuda bench-venv bench-torch-venv

bench: build bench-venv           ## all benchmarks, hours; writes docs/results/bench.md
	build/venv-bench/bin/python bench/run.py all

bench-short: build bench-venv     ## the same in half an hour: one past-RAM run a row, of 20 s
	build/venv-bench/bin/python bench/run.py short

bench-load: build bench-venv      ## cold load of 2 GiB, beside other loaders
	build/venv-bench/bin/python bench/run.py load

bench-resident: build bench-venv  ## everything fits: decode, attach, memory of four processes
	build/venv-bench/bin/python bench/run.py resident

bench-past-ram: build bench-venv  ## models larger than their memory, beside the kernel and the clairvoyant bound
	build/venv-bench/bin/python bench/run.py past_ram

bench-migrate: build              ## tiers: 1M extents with nothing to do, moves beside copies (in the guest)
	cd bench && python3 migrate.py

bench-quick: build bench-venv     ## the same rows from models of 512 MiB, under 4 minutes
	build/venv-bench/bin/python bench/run.py quick

bench-policy: build                ## policies: what calls cost, hit ratios on synthetic traces beside the optimum; a minute
	cmake --build build --target tierd_traces
	python3 bench/policy.py

bench-sample: build              ## is what statistics call hot what is read most, and what do they cost? 5 minutes
	python3 bench/sample.py

bench-cuda: build                ## GPUs, simulated: what a launch costs, switching models, deferred loading; half a minute
	scripts/install-deps.sh bench
	python3 bench/cuda.py

bench-venv:
	scripts/install-deps.sh bench
	scripts/make-bench-venv.sh

bench-torch-venv:                 ## adds torch (2.3 GB; wants a CUDA 13 toolkit's libraries), for two of the rival loaders
	scripts/install-deps.sh bench
	scripts/make-bench-venv.sh --torch
