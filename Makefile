# Everything here needs only make and python3 (3.11 or newer); each target sets itself up.
#   make run          the demo at http://127.0.0.1:8000
#   make test         all tests
#   make check        linters and type checkers
#   make servers      install PgBouncer and Galera from Debian, for the reliability tests that need them (asks for root)
#   make docs         the documentation as a site, in site/
#   make reference    write the page of the command line anew
#   make pictures     take the pictures of the documentation in Chromium
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
WORKERS ?= 2

define check_python
@command -v $(PYTHON) >/dev/null 2>&1 || { echo "There is no $(PYTHON). Install Python 3.11 or newer, then: make PYTHON=python3.12 <target>"; exit 1; }
@$(PYTHON) tools/check_python.py
endef

.PHONY: help run test check docs reference chromium pictures servers benchmark reliability clean

help:
	@sed -n 's/^#   //p' Makefile

run: .venv-run/.ready
	@$(RUN) -m examples.demo

test: .venv/.ready chromium
	@$(DEV) -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

check: .venv/.ready
	@$(DEV) -m ruff check .
	@$(DEV) -m ruff format --check .
	@$(DEV) -m mypy
	@$(DEV) -m pyright

# the browser tests of the admin want one; without it they are skipped, and with CI=true the run fails
chromium:
	@command -v "$${CHROMIUM:-chromium}" >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "Installing Chromium from Debian for the browser tests: apt-get install chromium"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 || \
		echo "CHROMIUM COULD NOT BE INSTALLED: the browser tests are skipped."; \
	else echo "NO CHROMIUM: the browser tests are skipped. To run them: apt-get install chromium (as root)."; fi

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
