# `make` without a target lists the targets.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.ready
DEMO_VENV := .venv-demo
LOCKS := pyproject.toml $(wildcard locks/*.txt locks/*.py)
# cpu, cuda, or auto: the CPU build of torch where there is no NVIDIA device
DEVICE ?= auto

# a GPU machine often has a torch of its own: .venv where it was made, else the python at hand
GPU_PYTHON := $(if $(wildcard $(RUN)),$(RUN),$(PYTHON))

.DEFAULT_GOAL := help
.PHONY: help setup demo lock test check faults chaos fuzz soak bench bench-gpu docs test-bench test-systemd test-image test-slurm test-postgres test-browser test-gpu clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## create .venv with ckptwatch, all extras and the test tools

$(STAMP): $(LOCKS)
	$(PYTHON) locks/install.py $(VENV) locks/dev.txt --device $(DEVICE)
	touch $(STAMP)

$(DEMO_VENV)/.ready: $(LOCKS)
	$(PYTHON) locks/install.py $(DEMO_VENV) locks/demo.txt --device $(DEVICE)
	touch $@

# The full environment serves the demo too, where it is up to date.
DEMO_READY := $(if $(shell test -f $(STAMP) && test -z "$$(find $(LOCKS) -newer $(STAMP))" && echo current),$(STAMP),$(DEMO_VENV)/.ready)
demo: $(DEMO_READY) ## train a small GPT and evaluate its checkpoints: one to two minutes
	$(dir $<)bin/ckptwatch demo --dir .demo

lock: ## resolve the lock files anew (needs uv); UPGRADE=1 takes the newest versions
	$(PYTHON) locks/lock.py $(if $(UPGRADE),--upgrade)

# A file's tests run in one process, in order: they share what its fixtures build. Reordered, the slow files come last.
TEST_PROCESSES ?= 2
test: $(STAMP) ## run the tests in TEST_PROCESSES=2 processes (no GPU, no network)
	$(RUN) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

faults: $(STAMP) ## run the fault matrix: files, processes, mounts, signals (some rows need root)
	$(RUN) -m pytest -m faults tests/faults

check: $(STAMP) ## ruff, mypy, and that generated pages are current
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(RUN) -m docs.generate --check

N ?= 200
SEED ?= 0
chaos: $(STAMP) ## kill the daemon N times at named and random moments (N=200)
	$(RUN) -m tests.faults.chaos $(N)

fuzz: $(STAMP) ## N random checkpoint files, read by our reader and by torch: differences, crashes, memory (N=200)
	$(RUN) -m tests.evalcore.archive.fuzz $(N) --seed $(SEED)

JOBS ?= 10000
soak: $(STAMP) ## JOBS jobs with a fake worker: memory, descriptors, threads (JOBS=10000)
	$(RUN) -m tests.faults.soak $(JOBS)

bench: $(STAMP) ## run every benchmark of bench/README.md
	$(RUN) -m bench all

test-bench: $(STAMP) ## run every benchmark small, and check what it prints
	$(RUN) -m pytest -n $(TEST_PROCESSES) -m bench tests/bench

test-gpu: ## test the core on the CUDA devices of this machine, then measure it; needs torch, numpy, tiktoken only
	$(GPU_PYTHON) -m tests.gpu
	@if $(GPU_PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then $(GPU_PYTHON) bench/gpu.py; fi

bench-gpu: ## the core's benchmark on one CUDA device; needs torch, numpy, tiktoken only
	$(GPU_PYTHON) bench/gpu.py

docs: $(STAMP) ## generate the reference and build the site in site/
	$(RUN) -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict -q

test-systemd test-image test-slurm test-postgres: test-%: $(STAMP) ## test against a real engine; installs its Debian packages, needs root
	bash tests/engines/install.sh $*
	$(RUN) -m pytest -m $* tests/engines

test-browser: $(STAMP) ## test the dashboard in Chromium
	$(RUN) -m pytest -m browser tests/browser

clean: ## remove what make created
	rm -rf $(VENV) $(DEMO_VENV) .demo site build *.egg-info
