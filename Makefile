# Two commands matter: `make demo` runs it, `make test` checks it. Each sets up what it needs.
SHELL  := /bin/bash
VENV   := .venv
PYTHON := $(VENV)/bin/python

.PHONY: help demo test lint bench bench-figures clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.run: requirements/run.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements/run.txt
	$(PYTHON) -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(PYTHON) -m pip install --quiet --requirement requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.run requirements/bench.txt
	$(PYTHON) -m pip install --quiet --requirement requirements/bench.txt
	@touch $@

demo: $(VENV)/.run  ## an app, traffic and the sidecar, to look at
	@$(VENV)/bin/websocket-exporter demo

lint: $(VENV)/.dev  ## style, types, import directions
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(VENV)/.dev lint  ## everything that must hold
	$(PYTHON) -m pytest

bench: $(VENV)/.bench  ## side by side with other proxies, 12 minutes; QUICK=1 for 2; needs cc, nginx, haproxy
	@$(PYTHON) -m benchmarks $(if $(QUICK),--quick)

bench-figures: $(VENV)/.run  ## count the hot path anew; the test that guards it compares with these figures
	@$(PYTHON) -m benchmarks.gate --write

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
