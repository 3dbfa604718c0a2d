# The benchmarks; included by the Makefile. What each writes and needs stands in bench/run.py.
.PHONY: bench bench-load bench-resident bench-past-ram bench-quick bench-venv

bench: build bench-venv           ## all benchmarks, hours; tables go to docs/results/bench.md
	build/venv-bench/bin/python bench/run.py all

bench-load: build bench-venv      ## cold load of 2 GiB, beside other loaders
	build/venv-bench/bin/python bench/run.py load

bench-resident: build bench-venv  ## everything fits: decode, attach, memory of four processes
	build/venv-bench/bin/python bench/run.py resident

bench-past-ram: build bench-venv  ## models larger than their memory, beside the kernel and the clairvoyant bound
	build/venv-bench/bin/python bench/run.py past_ram

bench-quick: build bench-venv     ## the same rows from models of 512 MiB, under 4 minutes
	build/venv-bench/bin/python bench/run.py quick

bench-venv:
	scripts/make-bench-venv.sh
