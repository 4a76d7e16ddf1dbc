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
# Tests run side by side. Many wait for processes and servers, so there are more than two cores can run. Each takes up
# to 4 GB of memory: WORKERS=1 is for small machines.
WORKERS ?= 3

LOCK := requirements/lock.txt
STAMP := .venv/installed
UV := .venv/bin/uv
# Entries of the lock that a torch index serves in its own builds, or that only its default build needs.
TORCH := ^(torch|torchvision)==
FROM_TORCH := ^(torch|torchvision|triton|nvidia-.*|cuda-.*)==

.PHONY: help
help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16
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
	$(UV) pip compile --quiet --universal --generate-hashes --extra export --extra test --extra dev --extra docs \
	  --python-version 3.11 --custom-compile-command 'make lock' --output-file $(LOCK) pyproject.toml
	$(UV) pip compile --quiet --universal --generate-hashes --no-annotate --extra train --python-version 3.11 \
	  --constraint $(LOCK) --custom-compile-command 'make lock' --output-file .venv/runtime.txt pyproject.toml
	awk '/^[a-z]/ { keep = $$0 ~ /$(FROM_TORCH)/ } keep || /^#/' .venv/runtime.txt > requirements/torch.txt
	awk '/^[a-z]/ { keep = $$0 !~ /$(FROM_TORCH)/ } keep || /^#/' .venv/runtime.txt > requirements/runtime.txt
	$(UV) pip compile --quiet --universal --generate-hashes --custom-compile-command 'make lock' --python-version 3.11 \
	  --output-file requirements/uv.txt requirements/uv.in
	$(UV) pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
	  --custom-compile-command 'make lock' --output-file requirements/package.txt requirements/package.in

.PHONY: lint
lint: $(STAMP)  ## check style, types and the rooms of the package
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/codespell
	.venv/bin/lint-imports --no-cache --no-logo

.PHONY: test
test: lint  ## style, types and the fast tests (PYTEST='-k name' for some)
	.venv/bin/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST)

.PHONY: laws
laws: $(STAMP)  ## every law on every method, strategy and network: long
	.venv/bin/python -m pytest -m laws $(PYTEST)

.PHONY: recipes
recipes: $(STAMP)  ## a step of every ImageNet recipe at its real size: long
	.venv/bin/python -m pytest -m "recipes or not recipes" tests/recipes/test_steps.py $(PYTEST)

.PHONY: exports
exports: $(STAMP)  ## every export format on networks of real sizes: long
	.venv/bin/python -m pytest -m exports tests/export $(PYTEST)

.PHONY: notebooks
notebooks: $(STAMP)  ## execute the notebooks of the docs
	.venv/bin/python -m pytest -m notebooks tests/interface $(PYTEST)

.PHONY: walkthroughs
walkthroughs: $(STAMP)  ## follow the documents from top to bottom, run the demo on other images: long
	.venv/bin/python -m pytest -m walkthrough tests/docs tests/browser tests/test_demo_command.py $(PYTEST)

.PHONY: test-cluster
test-cluster: $(STAMP)  ## pods killed on a real cluster: KUBECONFIG, HARDVIEWS_IMAGE and OBJECT_STORE_IMAGE say which
	.venv/bin/python -m pytest -m cluster tests/cluster $(PYTEST)

.PHONY: test-slurm
test-slurm: $(STAMP)  ## jobs on a Slurm that is started here, if its packages are installed (slurm-wlm, munge)
	.venv/bin/python -m pytest -m slurm tests/slurm $(PYTEST)

# The programs that build and check a release, in an environment of their own.
RELEASE := .venv/release
$(RELEASE)/installed: $(UV) requirements/package.txt
	$(UV) venv --quiet --clear --python .venv/bin/python $(RELEASE)
	$(UV) pip install --quiet --python $(RELEASE)/bin/python --no-deps --require-hashes -r requirements/package.txt
	touch $@

.PHONY: package
package: $(STAMP) $(RELEASE)/installed  ## build the wheel, install it into empty environments, check the release: needs a package index
	.venv/bin/python -m pytest -m package tests/package $(PYTEST)

.PHONY: chaos
chaos: $(STAMP)  ## kill, freeze and restart everything at random while it trains (CHAOS_SEED, CHAOS_FAULTS)
	.venv/bin/python -m pytest -m chaos tests/chaos -s $(PYTEST)

.PHONY: demo
demo: $(STAMP)  ## pretrain on a small dataset with hard views, evaluate, show the table
	.venv/bin/hardviews demo $(if $(DATA),--data '$(DATA)') $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: $(STAMP)  ## print every published figure
	for program in benchmarks/*.py; do echo "== $$program"; .venv/bin/python "$$program"; done

# The folder of a version beside those of others: `latest`, or a tag.
DOCS_VERSION ?= latest
DOCS_PORT ?= 8000
SITE := build/site

.PHONY: docs
docs: $(STAMP)  ## build the site of the documentation into build/site, with every warning an error
	HARDVIEWS_SITE_VERSION='$(DOCS_VERSION)' .venv/bin/sphinx-build --builder html --conf-dir docs --fail-on-warning --keep-going \
	  --doctree-dir build/doctrees . $(SITE)/$(DOCS_VERSION)
	.venv/bin/python docs/building/versions.py $(SITE) $(if $(DOCS_ADDRESS),--address '$(DOCS_ADDRESS)')

.PHONY: docs-serve
docs-serve: docs  ## show the site on loopback (DOCS_PORT=8000)
	@echo 'http://127.0.0.1:$(DOCS_PORT)/'
	.venv/bin/python -m http.server $(DOCS_PORT) --bind 127.0.0.1 --directory $(SITE)

.PHONY: docs-links
docs-links: $(STAMP)  ## ask every web address in the documentation whether it is there: needs the network
	.venv/bin/sphinx-build --builder linkcheck --conf-dir docs --doctree-dir build/doctrees . build/linkcheck

# Whatever builds images here: the first that works.
BUILDERS := docker podman buildah
BUILDER = $(or $(firstword $(foreach b,$(BUILDERS),$(shell $(b) info >/dev/null 2>&1 && echo $(b)))),none)
IMAGE ?= hardviews
TARGET ?= gpu
BASE ?= debian:bookworm-slim
PUSH ?=
NEEDS_BUILDER = test '$(BUILDER)' != none || { echo 'To build images, one of $(BUILDERS) has to work here.' >&2; exit 1; }
BUILD = $(BUILDER) build $(if $(filter buildah,$(BUILDER)),--layers) --build-arg BASE='$(BASE)'

.PHONY: image
image:  ## build the container image (IMAGE=NAME TARGET=cpu|gpu BASE=IMAGE PUSH=1)
	@$(NEEDS_BUILDER)
	@test '$(TARGET)' = gpu -o -n '$(TORCH_INDEX)' || { echo 'Add TORCH_INDEX=ADDRESS of CPU builds (see pytorch.org).' >&2; exit 1; }
	$(BUILD) --file docker/Dockerfile --target '$(TARGET)' --build-arg TORCH_INDEX='$(TORCH_INDEX)' \
	  --build-arg COMMIT="$$(git describe --always --abbrev=40 --dirty=+changes 2>/dev/null)" --tag '$(IMAGE)' .
	$(if $(PUSH),$(BUILDER) push '$(IMAGE)')

.PHONY: store
store:  ## build the image of a small S3 server, for tests and laptops (IMAGE=NAME PUSH=1)
	@$(NEEDS_BUILDER)
	$(BUILD) --file docker/object-store.Dockerfile --tag '$(IMAGE)' .
	$(if $(PUSH),$(BUILDER) push '$(IMAGE)')

.PHONY: clean
clean:  ## remove .venv and caches; runs and data stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build platform/hardviews.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
