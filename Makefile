# Two commands matter: `make demo` runs it, `make test` checks it. Each sets up what it needs.
SHELL  := /bin/bash
VENV   := .venv
PYTHON := $(VENV)/bin/python

.PHONY: help demo test lint kubernetes-tools deploy-files image-test conformance fuzz load audit clean

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

$(VENV)/.reliability: $(VENV)/.e2e requirements/reliability.txt
	$(PYTHON) -m pip install --quiet --requirement requirements/reliability.txt
	@touch $@

demo: $(VENV)/.run  ## an app, traffic and the sidecar, to look at
	@$(VENV)/bin/websocket-exporter demo

lint: $(VENV)/.dev  ## style, types, import directions
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(VENV)/.reliability lint  ## everything that must hold
	@scripts/debian-packages buildah podman runc debootstrap chromium nodejs:node npm prometheus:promtool prometheus-alertmanager:amtool
	$(PYTHON) -m pytest

image-test: $(VENV)/.dev  ## build the container image and run it (root, debootstrap, buildah, podman)
	$(PYTHON) -m pytest tests/image -m image -s

test: kubernetes-tools
kubernetes-tools: $(VENV)/.dev  ## fetch kubectl, helm and schemas for the deployment tests, once
	-$(PYTHON) scripts/kubernetes_tools.py

deploy-files: $(VENV)/.dev  ## write the generated files below deploy/
	PYTHONPATH=. $(PYTHON) scripts/deploy_files.py

conformance: $(VENV)/.reliability  ## all 517 Autobahn cases, direct and through the sidecar (about a quarter of an hour)
	$(PYTHON) -m tests.conformance

fuzz: $(VENV)/.reliability  ## an hour of fuzzing, ten minutes a target; FUZZ_SECONDS=... for another time
	@for target in scanner http session relay text inject; do \
	  $(PYTHON) -m tests.fuzz $$target --runs 1000000000 --seconds $${FUZZ_SECONDS:-600} || exit 1; done

load: $(VENV)/.reliability  ## 9,000 sessions for ten minutes, 200,000 short ones, the worst clients (a quarter of an hour)
	$(PYTHON) -m tests.load $(LOAD)

build/audit: requirements/run.txt requirements/audit.txt
	python3 -m venv build/audit-tools && build/audit-tools/bin/pip install --quiet --requirement requirements/audit.txt
	python3 -m venv --without-pip build/audit
	build/audit-tools/bin/pip --python build/audit/bin/python install --quiet --requirement requirements/run.txt
	@touch $@

audit: build/audit  ## pins, licences, advisories and bill of materials of what the sidecar runs on
	build/audit-tools/bin/python scripts/audit.py build/audit/bin/python build/sbom.cdx.json

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
