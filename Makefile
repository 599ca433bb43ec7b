# Two commands do everything on a fresh machine: `make up` and `make test`. `make help` explains the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONTEXT ?=
REGISTRY ?=
TAG ?= dev

.DEFAULT_GOAL := help
.PHONY: help up down test programs unit component e2e lint format generate lock bench campaign images picture clean

help:  ## show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is newer than what decides the environment's content; a half-made environment has none.
$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@echo "python environment: $(VENV) (about a minute the first time)"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

up: $(VENV)/.ready  ## cluster, images, execpool, a pool and a key; then the workload, live (CONTEXT= for your own cluster)
	@$(BIN)/execpool up --context "$(CONTEXT)" --registry "$(REGISTRY)" --tag "$(TAG)"

down: $(VENV)/.ready  ## remove everything that `make up` made
	@$(BIN)/execpool down --context "$(CONTEXT)"

test: $(VENV)/.ready lint programs  ## all tests, on a real cluster too
	$(BIN)/python -m pytest

# Before pytest, which would hide the progress of builds that take minutes the first time.
programs: $(VENV)/.ready  ## what a real cluster needs: Kubernetes' programs and our images, unless cached
	@$(PYTHON) tests/cluster build >/dev/null
	@$(BIN)/execpool images >/dev/null

unit: $(VENV)/.ready  ## decisions only: no sockets, no cluster, seconds
	$(BIN)/python -m pytest tests/unit tests/generated

component: $(VENV)/.ready  ## real processes and sockets, an API server in memory
	$(BIN)/python -m pytest tests/component tests/contract

e2e: $(VENV)/.ready  ## user stories on a real cluster
	$(BIN)/python -m pytest tests/e2e

lint: $(VENV)/.ready  ## ruff, formatting, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m execpool.api.generate --check

format: $(VENV)/.ready  ## let ruff write what it can
	$(BIN)/ruff check --fix . || true
	$(BIN)/ruff format .

generate: $(VENV)/.ready  ## CRDs and field tables from the models
	$(BIN)/python -m execpool.api.generate

lock:  ## new lock files, with hashes and without index addresses (needs uv)
	@for part in executor controlplane dev; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" requirements/$$part.in -o requirements/$$part.txt; \
	done

bench: $(VENV)/.ready  ## every benchmark, each beside its peer in the same run
	$(BIN)/python -m benchmarks

campaign: $(VENV)/.ready  ## half an hour: operators die everywhere, every call fails every way; the emulator's ledger judges
	$(BIN)/python -m tests.campaigns crashes
	$(BIN)/python -m tests.campaigns faults
	$(BIN)/python -m tests.campaigns gateway
	$(BIN)/python -m tests.campaigns planted

picture: $(VENV)/.ready  ## the picture in the README, from a real run of the workload
	@$(BIN)/execpool up --record docs/workload.svg

images:  ## build and push both images for your own cluster: make images REGISTRY=registry.example/team TAG=1
	@test -n "$(REGISTRY)" || { echo "make images needs REGISTRY=, the registry and path to push to"; exit 2; }
	@builder=$$(command -v docker || command -v podman || command -v buildah) || { echo "docker, podman or buildah is needed"; exit 2; }; \
	for target in controlplane executor; do \
	  $$builder build --target $$target --tag $(REGISTRY)/execpool-$$target:$(TAG) --file Dockerfile . \
	    && $$builder push $(REGISTRY)/execpool-$$target:$(TAG); \
	done

clean:  ## remove the python environment and caches of this clone
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
