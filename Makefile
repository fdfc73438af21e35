# Two commands do all the set-up, each by itself: `make reproduce` and `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
RESULTS ?= results/report
# Cells or tests at a time: one a core, but no more than memory is likely to be there for.
JOBS ?= $(shell $(PYTHON) -c "import os; print(min(os.cpu_count() or 1, 8))")

# What there is already: the virtual environment, or else the Python of a machine with a GPU.
GPU_PYTHON ?= $(if $(wildcard $(RUN)),$(RUN),$(PYTHON))
DEVICE ?= cuda

# Of the benchmark: how much is run.
PROFILE ?= small

.PHONY: reproduce test report benchmark bench gpu soak fuzz lint clean help

help:
	@echo "make reproduce   set up, run the quick profile of the paper's experiments, write $(RESULTS)"
	@echo "make test        set up, run all tests"
	@echo "make report      remake the report of $(RESULTS) from its tables"
	@echo "make benchmark   set up, run the benchmark of optimizers, write its page, results/benchmark"
	@echo "make bench       measure against the alternatives; ARGS=--quick for a short version"
	@echo "make gpu         check and measure on a GPU; DEVICE=cpu for what needs none"
	@echo "make soak        kill, damage and crowd runs, and compare their tables with an undisturbed one's"
	@echo "make fuzz        10,000 hostile inputs for each reader of files"
	@echo "make lint        ruff and mypy"
	@echo "make clean       remove the virtual environment, what building leaves and the tools' caches; results stay"

# constraints.txt holds the versions that the committed results were made with.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt torch torchvision
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev,ray]'
	touch $@

reproduce: $(VENV)/.installed
	$(RUN) reproduce.py run --profile quick --results $(RESULTS) --jobs $(JOBS)

test: $(VENV)/.installed
	$(RUN) -m pytest -n $(JOBS) --dist worksteal

report: $(VENV)/.installed
	$(RUN) reproduce.py report --results $(RESULTS)

benchmark: $(VENV)/.installed
	$(RUN) reproduce.py run benchmark --profile $(PROFILE) --results results/benchmark-run --jobs $(JOBS)
	$(RUN) reproduce.py benchmark --results results/benchmark-run --out results/benchmark

bench: $(VENV)/.installed
	$(RUN) -m benchmarks $(ARGS)

gpu:
	$(GPU_PYTHON) -m benchmarks.gpu --device $(DEVICE) $(ARGS)

soak: $(VENV)/.installed
	$(RUN) -m benchmarks.soak $(ARGS)

fuzz: $(VENV)/.installed
	L2L_FUZZ=10000 $(RUN) -m pytest tests/test_untrusted_settings.py tests/test_untrusted_files.py

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .tox
