# Two commands do all that a newcomer needs: `make demo` and `make test`. Both make .venv when it is missing or
# stale. With TORCH_INDEX=<address of a package index>, torch comes from that index (a CPU build saves 5 GB).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
DATA ?=
PYTEST ?=
# Test files run side by side: most of their time goes to processes that start and servers that answer.
WORKERS ?= 2

LOCK := requirements/lock.txt
STAMP := .venv/installed
UV := .venv/bin/uv
# Entries of the lock that a torch index serves in its own builds, or that only its default build needs.
TORCH := ^(torch|torchvision)==
FROM_TORCH := ^(torch|torchvision|triton|nvidia-.*|cuda-.*)==

.PHONY: help
help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16
	@echo
	@echo '  make demo DATA=FOLDER      the same on your own images, one folder a class'
	@echo '  make test TORCH_INDEX=URL  install torch from another package index'

.PHONY: venv
venv: $(STAMP)  ## install everything into .venv, unless that is done

# Debian ships venv without pip in it, and its own pip can install into another environment.
$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo 'hardviews needs Python 3.11 or 3.12; name one: make PYTHON=python3.11 ...' >&2; exit 1; }
	.venv/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear --without-pip .venv
	$(PYTHON) -m pip --python .venv/bin/python install --quiet --require-hashes -r requirements/uv.txt
	touch $@

$(STAMP): $(UV) $(LOCK) pyproject.toml
ifeq ($(TORCH_INDEX),)
	$(UV) pip install --python .venv/bin/python --compile-bytecode --no-deps --require-hashes -r $(LOCK)
else
	awk '/^[a-z]/ { keep = $$0 !~ /$(FROM_TORCH)/ } keep' $(LOCK) \
	  | $(UV) pip install --python .venv/bin/python --compile-bytecode --no-deps --require-hashes -r -
	$(UV) pip install --python .venv/bin/python --compile-bytecode --no-deps --default-index '$(TORCH_INDEX)' \
	  $$(awk '/$(TORCH)/ { print $$1 }' $(LOCK))
endif
	$(UV) pip install --python .venv/bin/python --no-deps --no-build-isolation --no-index --editable .
	touch $@

.PHONY: lock
lock: $(UV)  ## compile the dependencies of pyproject.toml into requirements/
	$(UV) pip compile --quiet --universal --generate-hashes --extra test --extra dev --python-version 3.11 \
	  --custom-compile-command 'make lock' --output-file $(LOCK) pyproject.toml
	$(UV) pip compile --quiet --universal --generate-hashes --custom-compile-command 'make lock' --python-version 3.11 \
	  --output-file requirements/uv.txt requirements/uv.in

.PHONY: lint
lint: $(STAMP)  ## check style and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/codespell

.PHONY: test
test: lint  ## style, types and the fast tests (PYTEST='-k name' for some)
	.venv/bin/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST)

.PHONY: laws
laws: $(STAMP)  ## every law on every method, strategy and network: long
	.venv/bin/python -m pytest -m laws $(PYTEST)

.PHONY: demo
demo: $(STAMP)  ## pretrain on a small dataset with hard views, evaluate, show the table
	.venv/bin/hardviews demo $(if $(DATA),--data '$(DATA)') $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: $(STAMP)  ## print every published figure
	for program in benchmarks/*.py; do echo "== $$program"; .venv/bin/python "$$program"; done

.PHONY: clean
clean:  ## remove .venv and caches; runs and data stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build platform/hardviews.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
