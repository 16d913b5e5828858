# berth: `make up` and `make test` are all you need; `make help` lists the rest.
PYTHON ?= python3
BOOTSTRAP = @$(PYTHON) toolchain/bootstrap.py
RUN = .venv/bin/python
# --universal: one lock for every Python from 3.11 and every processor; the index is the one pip is configured with.
LOCK = INDEX=$$($(RUN) -m pip config get global.index-url 2>/dev/null); \
	$(RUN) -m uv pip compile $${INDEX:+--default-index "$$INDEX"} --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --quiet $(LOCK_FLAGS)

.PHONY: up preview test test-unit lint down reset requirements help
.DEFAULT_GOAL := help

up: ## bring up Pulumi.sandbox.yaml on real Debian hosts (record-only where they cannot run)
	$(BOOTSTRAP)
	@$(RUN) -m sandbox up

preview: ## show what `make up` would change; needs neither root nor containers
	$(BOOTSTRAP) venv pulumi
	@$(RUN) -m sandbox preview

# One session, so that its last lines tell the whole story: what did not run here and why, then the counts.
test: ## check everything this machine can prove, and end by saying what did not run
	$(BOOTSTRAP)
	@toolchain/lint.sh
	@BERTH_NOT_RUN="$$(toolchain/lint.sh --not-run)" $(RUN) -m pytest

test-unit: ## only the tests that start no sandbox
	$(BOOTSTRAP) venv
	@$(RUN) -m pytest -n 2 -m "not sandbox and not e2e"

lint: ## style, types, host scripts, generated files
	$(BOOTSTRAP) venv
	@toolchain/lint.sh

down: ## destroy the stack, and with it the hosts and services that ran for it
	$(BOOTSTRAP) venv pulumi
	@$(RUN) -m sandbox destroy

reset: ## remove every trace of the sandbox from this machine
	$(BOOTSTRAP) venv
	@$(RUN) -m sandbox reset

requirements: ## lock again after a change of *.in; LOCK_FLAGS=--upgrade takes newer versions
	$(BOOTSTRAP) venv
	@$(LOCK) -o requirements.txt requirements.in
	@$(LOCK) -o requirements-dev.txt requirements-dev.in
	@$(LOCK) -o toolchain/go.txt toolchain/go.in

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
