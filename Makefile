# Two commands matter: `make demo` runs it, `make test` checks it. Each sets up what it needs.
SHELL  := /bin/bash
VENV   := .venv
PYTHON := $(VENV)/bin/python

.PHONY: help demo test lint image-test dashboard-preview clean

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

$(VENV)/.e2e: $(VENV)/.dev requirements/e2e.txt
	$(PYTHON) -m pip install --quiet --requirement requirements/e2e.txt
	@touch $@

demo: $(VENV)/.run  ## an app, traffic and the sidecar, to look at
	@$(VENV)/bin/websocket-exporter demo

lint: $(VENV)/.dev  ## style, types, import directions
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(VENV)/.e2e lint  ## everything that must hold
	@scripts/debian-packages chromium nodejs:node npm prometheus:promtool prometheus-alertmanager:amtool
	$(PYTHON) -m pytest

image-test: $(VENV)/.dev  ## build the container image and run it (root, debootstrap, buildah, podman)
	$(PYTHON) -m pytest tests/image -m image -s

dashboard-preview: $(VENV)/.dev  ## draw docs/dashboard-preview.png from a run of the alerts' end-to-end test (two minutes)
	@scripts/debian-packages prometheus:promtool prometheus-alertmanager:amtool
	data=$$(mktemp) && trap 'rm -f "$$data"' EXIT && \
	DASHBOARD_DATA=$$data $(PYTHON) -m pytest tests/grafana/test_end_to_end.py && \
	$(PYTHON) -m grafana.source.preview $$data docs/dashboard-preview.png

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
