# Everything here needs only make and python3 (3.11 or newer); each target sets itself up.
#   make run          the demo at http://127.0.0.1:8000
#   make test         all tests
#   make check        linters and type checkers
#   make servers      install PgBouncer and Galera from Debian, for make reliability (asks for root)
#   make docs         the documentation as a site, in site/
#   make reference    write the page of the command line anew
#   make pictures     take the pictures of the documentation in Chromium
#   make clients      react-admin's and Refine's data providers against a router with dialects (wants node)
#   make benchmark    our routes against hand-written ones and those of the peers
#   make reliability  the reliability tests in their full size: ARGS="--only R1,R20", ARGS="--size 0.1"
#   make clean        delete the environments and caches
# ARGS="..." goes to pytest or to the benchmark, WORKERS=n sets the test processes, PORT=n the port of the demo.

PYTHON ?= python3
PORT ?= 8000
export PORT
PIP := -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUN := .venv-run/bin/python
DEV := .venv/bin/python
WORKERS ?= 3

define check_python
@command -v $(PYTHON) >/dev/null 2>&1 || { echo "There is no $(PYTHON). Install Python 3.11 or newer, then: make PYTHON=python3.12 <target>"; exit 1; }
@$(PYTHON) tools/check_python.py
endef

# a package, what finds its program, and what is skipped without it
define from_debian
@{ $(2); } >/dev/null 2>&1 || \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	echo "Installing $(1) from Debian for $(3): apt-get install $(1)"; \
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	{ apt-get install -y -qq $(1) || { apt-get update -qq && apt-get install -y -qq $(1); }; } >/dev/null 2>&1 || \
	echo "$(1) COULD NOT BE INSTALLED: $(3) are skipped."; \
else echo "NO $(1): $(3) are skipped. To run them: apt-get install $(1) (as root)."; fi
endef

.PHONY: help run test check docs reference chromium pgbouncer pictures servers clients benchmark reliability clean

help:
	@sed -n 's/^#   //p' Makefile

run: .venv-run/.ready
	@$(RUN) -m examples.demo

# compiled here, as the tests start some two hundred processes and keep no bytecode
test: .venv/.ready chromium pgbouncer
	@$(DEV) -m compileall -q src examples
	@$(DEV) -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

check: .venv/.ready
	@$(DEV) -m ruff check .
	@$(DEV) -m ruff format --check .
	@$(DEV) -m mypy
	@$(DEV) -m pyright
	@$(DEV) -m tools.check_projects

# the browser tests want Chromium, without which a run with CI=true fails, and those of poolers want PgBouncer
chromium:
	$(call from_debian,chromium,command -v "$${CHROMIUM:-chromium}" || command -v chromium-browser,the browser tests)

pgbouncer:
	$(call from_debian,pgbouncer,PATH="$$PATH:/usr/sbin" command -v pgbouncer,the tests of PgBouncer)

docs: .venv/.ready
	@$(DEV) -m zensical build --strict
	@echo "The site is in site/index.html"

reference: .venv/.ready
	@$(DEV) -m tools.reference

pictures: .venv/.ready chromium
	@$(DEV) -m tools.tour

servers:
	@echo "Installing PgBouncer, Galera and rsync from Debian: apt-get install pgbouncer galera-4 rsync"
	@apt-get update -qq && apt-get install -y -qq pgbouncer galera-4 rsync

reliability: .venv/.ready
	@$(DEV) -m tests.reliability.run $(ARGS)

clients: .venv/.ready
	@$(DEV) -m tests.rest.clients.run $(ARGS)

benchmark: .venv/.ready-benchmark
	@command -v wrk >/dev/null || { echo "Installing wrk, the load maker, from Debian: apt-get install wrk"; apt-get update -qq && apt-get install -y -qq wrk; }
	@$(DEV) -m benchmarks.run $(ARGS)

.venv-run/.ready: pyproject.toml constraints.txt
	$(check_python)
	@echo "Setting up the demo's environment in .venv-run"
	@$(PYTHON) -m venv .venv-run
	@$(RUN) $(PIP) -e ".[serve]"
	@touch $@

.venv/.ready: pyproject.toml constraints.txt
	$(check_python)
	@echo "Setting up the development environment in .venv"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(DEV) $(PIP) -e ".[all]" --group test --group check --group docs
	@touch $@

.venv/.ready-benchmark: .venv/.ready
	@$(DEV) $(PIP) --group benchmark
	@touch $@

clean:
	rm -rf site .venv .venv-run .mypy_cache .pytest_cache .ruff_cache .hypothesis
