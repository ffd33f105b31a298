# `make demo` and `make test` need Python >= 3.10 with pip and venv, and nothing else.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OUT    ?= runs/demo
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help install demo results test lint types fast slow quick readme examples notebooks docs clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv and install the package with everything the tests and the docs need

# torch by itself and first: with its version fixed, nothing installed later can ask for another build.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python >= 3.10 found; say which: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@$(PIP) install -q -c constraints.txt -e '.[tasks]' || \
		echo "reasoning_gym is left out, and its tests with it: one of its packages is compiled here, from C."
	@touch $@

demo: $(STAMP)  ## train the objectives and write the report with its figures to $(OUT)
	$(BIN)/geomalign compare --out $(OUT) --resume

results: demo  ## put the demo's report, of the solved objectives and of the group objectives, where README and the documentation show them
	$(BIN)/geomalign compare -O "opo mu=10" -O opo_trust_region -O opo_ess -O "mirror_descent label=adaptive control='kl=0.02'" --rates 5e-5 --out runs/solved --resume
	$(BIN)/geomalign compare -O "tpo tuning='the published eta = 1; none searched here'" -O "sparse_lpo tuning='tau = mu = 1 as the recipe has them; none searched here'" \
		-O "grpo tuning='the published clip range, without the KL penalty to a reference; none searched here'" \
		-O "opo mu=10 tuning='mu = 10 as in the demo, where a sweep of 3, 10 and 30 on seed 0 kept it'" \
		--rates 5e-5,2e-4 --seeds 0,1,2,3,4 --out runs/groups --resume
	@set -e; for pair in "$(OUT) docs/results" "runs/solved docs/results/solved" "runs/groups docs/results/groups"; do set -- $$pair; mkdir -p $$2/figures; \
		cp $$1/report.md $$1/finals.csv $$1/metrics.csv $$1/metrics.jsonl $$2/; cp $$1/figures/*.png $$2/figures/; done

test: lint types fast  ## ruff, mypy, and every test that takes seconds

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

fast: $(STAMP)
	$(PYTEST) -n 0 -q --durations=0 --durations-min=5 --doctest-modules geomalign docs --ignore docs/gallery --ignore docs/auto_gallery \
		--ignore geomalign/adapters/verl_plugin.py --ignore geomalign/adapters/rllm_plugin.py --ignore docs/conf.py
	$(PYTEST) -n 2 -m 'not slow'

slow: $(STAMP)  ## the tests that take minutes
	$(PYTEST) -n 2 -m slow

quick: $(STAMP)  ## the comparison in under two minutes, from scratch
	rm -rf runs/quick
	$(BIN)/geomalign compare --preset ci --out runs/quick

readme: $(STAMP)  ## every Python block of README.md and docs/
	$(PYTEST) -n 0 tests/test_readme.py

examples: $(STAMP)  ## every file of examples/
	@set -e; for file in examples/*.py; do test -e "$$file" || continue; \
		echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python "$$file"; done

notebooks: $(STAMP)  ## execute every notebook, with its figures
	@set -e; if test -e notebooks/run.py; then OMP_NUM_THREADS=1 $(BIN)/python notebooks/run.py --out build/notebooks; fi

.PHONY: gallery
gallery: $(STAMP)  ## run the programs of docs/gallery; their pictures go to build/gallery (`make docs` runs them, too)
	@mkdir -p build/gallery; set -e; for file in docs/gallery/plot_*.py; do echo "== $$file"; OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -c \
		"import runpy, sys; from matplotlib import pyplot; runpy.run_path(sys.argv[1]); pyplot.savefig(sys.argv[2])" \
		$$file build/gallery/$$(basename $$file .py).png; done

.PHONY: pages
pages: $(STAMP)  ## write again what the documentation has from the code: catalogue, identification, theorems, README's table
	$(BIN)/python docs/catalogue_pages.py
	$(BIN)/python docs/identify_pages.py
	$(BIN)/python docs/generate_theorems.py
	$(BIN)/python docs/readme_table.py
	$(BIN)/python docs/formula_figure.py
	$(BIN)/python docs/why_figures.py
	$(BIN)/python docs/explorer_data.py
	$(BIN)/python docs/periodic_table_page.py

# One process: forked workers of sphinx-build wait for locks that torch's threads held.
docs: $(STAMP)  ## the HTML documentation, to docs/_build/html
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:  ## everything that was built; not the runs
	rm -rf $(VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

.PHONY: package
package: $(STAMP)  ## sdist and wheel, tried with core dependencies alone, and on every Python from 3.10 to 3.13 that is here
	PYTHON=$(BIN)/python bash tests/packaging/run.sh

.PHONY: parity parity-report
LIBRARIES := trl-0.29 trl-1.6 trl-1.16 verl areal liger openrlhf skyrl swift torchrl trinity

parity: $(STAMP)  ## objectives against the code of TRL, verl, Liger, OpenRLHF and torchrl; builds their environments
	BASE=$(VENV) bash tests/parity/environments.sh
	$(PYTEST) -n 2 tests/parity

parity-report: $(STAMP)  ## run all of it again and write docs/parity.md
	BASE=$(VENV) bash tests/parity/environments.sh
	mkdir -p build/parity
	@set -e; for library in $(LIBRARIES); do echo "== $$library"; OMP_NUM_THREADS=1 .venv-parity-$$library/bin/python -W ignore \
		-m tests.parity run $${library%%-*} --out build/parity/$$library.json; done
	$(BIN)/python -m tests.parity render $(LIBRARIES:%=build/parity/%.json)

.PHONY: bench
BENCH ?= full
bench: $(STAMP)  ## times and memory against TRL, verl, Liger, torch and entmax; writes docs/results/performance; BENCH=short: minutes
	BASE=$(VENV) bash tests/bench/environments.sh
	.venv-bench/bin/python -m tests.bench run --preset $(BENCH) --out build/bench/records.json
	.venv-bench/bin/python -m tests.bench render build/bench/records.json

.PHONY: adapters
HOSTED := -m pytest -q -n 0 -p no:cacheprovider
adapters: $(STAMP)  ## the adapters in environments of the trainers themselves, of TRL in four releases; builds them
	BASE=$(VENV) bash tests/adapters/environments.sh 1.16.0 1.14.2 1.6.0 0.29.1 torchtune skyrl torchtitan tinker
	BASE=$(VENV) bash tests/parity/environments.sh verl openrlhf
	@set -e; for environment in .venv-trl-*; do echo "== $$environment"; \
		OMP_NUM_THREADS=1 $$environment/bin/python $(HOSTED) tests/adapters/test_trl.py; done
	OMP_NUM_THREADS=1 .venv-trl-1.16.0/bin/python $(HOSTED) tests/test_export.py tests/test_identify.py -k trl
	OMP_NUM_THREADS=1 .venv-parity-verl/bin/python $(HOSTED) tests/adapters/test_verl.py
	OMP_NUM_THREADS=1 .venv-parity-verl/bin/python $(HOSTED) tests/test_export.py tests/test_identify.py -k verl
	OMP_NUM_THREADS=1 .venv-parity-openrlhf/bin/python $(HOSTED) tests/adapters/test_hosts.py -k openrlhf
	OMP_NUM_THREADS=1 .venv-host-torchtune/bin/python $(HOSTED) tests/adapters/test_hosts.py -k torchtune
	OMP_NUM_THREADS=1 .venv-host-skyrl/bin/python $(HOSTED) tests/adapters/test_skyrl.py
	OMP_NUM_THREADS=1 .venv-host-torchtitan/bin/python $(HOSTED) tests/adapters/test_torchtitan.py
	OMP_NUM_THREADS=1 .venv-host-tinker/bin/python $(HOSTED) tests/adapters/test_tinker.py
	@set -e; for environment in .venv-trl-1.16.0 .venv-parity-verl .venv-parity-openrlhf .venv-host-torchtune .venv-host-skyrl \
		.venv-host-torchtitan .venv-host-tinker; do $$environment/bin/python $(HOSTED) tests/adapters/test_drift.py -k installed; done

.PHONY: extras
extras: $(STAMP)  ## adapters of peft, and the trackers of --report-to, in an environment that has them; builds it
	BASE=$(VENV) bash tests/training/environments.sh
	OMP_NUM_THREADS=1 .venv-extras/bin/python $(HOSTED) tests/training/test_lora.py tests/training/test_callbacks.py

.PHONY: hosts
hosts: $(STAMP)  ## what changed in the trainers since their functions were read: downloads releases, writes docs/trainers/drift.md
	$(BIN)/python -m tests.adapters.drift

# Small ones, for Linux on x86-64. numpy, scipy, pandas, pyarrow and matplotlib are large and usually there: else WHEELS="… pyarrow".
.PHONY: gpu gpu-tiny gpu-wheels
GPU_PYTHON := 3.12
WHEELS := trl==1.16.0 liger-kernel==0.8.5 datasets dill multiprocess xxhash accelerate entmax lazy_loader pydantic pydantic_core \
	annotated-types annotated-doc typing_extensions typing-inspection typer rich shellingham click markdown-it-py mdurl Pygments \
	pytest pluggy iniconfig hypothesis sortedcontainers
gpu-wheels: $(STAMP)  ## what tests/gpu/run.sh may lack on a machine without a network, to build/gpu-wheels
	rm -rf build/gpu-wheels
	$(PIP) download -q --no-deps --only-binary=:all: --python-version $(GPU_PYTHON) --implementation cp -c constraints.txt -d build/gpu-wheels \
		--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any $(WHEELS)
	@du -sh build/gpu-wheels

gpu:  ## tests and benchmarks on a CUDA device, eight minutes; figures to gpu-results/
	tests/gpu/run.sh

# In TRL's environment where it was built; Liger is in one of its own.
HOST := $(firstword $(wildcard .venv-trl-1.16.0/bin/python) $(BIN)/python)
gpu-tiny: $(STAMP)  ## the same script with small sizes on the CPU; figures to build/gpu-tiny
	OUT=build/gpu-tiny PYTHON=$(HOST) PYTHONPATH=$(firstword $(wildcard .venv-parity-liger/lib/python3*/site-packages)) \
		tests/gpu/run.sh --tiny

.PHONY: mutants
MUTANTS ?= --sample 150 --seed 0
mutants: $(STAMP)  ## wrong lines of code that no fast test notices; writes docs/results/mutants.md
	$(BIN)/python -m tests.mutants run $(MUTANTS) --out build/mutants.json
	$(BIN)/python -m tests.mutants render build/mutants*.json
