# Two commands matter: `make run` starts everything on this machine, `make test` runs the tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
STAMP  := $(VENV)/.installed

.PHONY: run test native check lint envtest helm crds lock clean help
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tickmesh needs Python 3.11 or later: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "this Python cannot make a virtual environment; install its venv module (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "installing into $(VENV) (once; a minute or two) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

native: $(STAMP) ## build the native hot path (Rust) where a toolchain is present
	@$(BIN)/python pkg/native/build.py --into "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"

run: $(STAMP) native ## start every service on this machine; ARGS="--for 30s --json" goes through
	@exec $(BIN)/tickmesh up $(ARGS)

test: $(STAMP) native ## run all tests
	@$(BIN)/python -m pytest $(ARGS)

check: lint native ## before every commit: lint, tests of style, units and twins, a short simulation
	@$(BIN)/python -m pytest tests/tidy tests/unit tests/parity -m 'not slow' -n logical $(ARGS)
	@$(BIN)/tickmesh simulate --seeds 8

lint: $(STAMP) ## format, lint, types, layers
	@$(BIN)/ruff format --check pkg tests cmd
	@$(BIN)/ruff check pkg tests cmd
	@PYTHONPATH=pkg $(BIN)/lint-imports
	@$(BIN)/mypy
	@! command -v cargo >/dev/null || cargo fmt --check --manifest-path pkg/native/Cargo.toml
	@! command -v cargo-clippy >/dev/null || PYO3_BUILD_EXTENSION_MODULE=1 PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --quiet --release --locked --manifest-path pkg/native/Cargo.toml --target-dir "$${XDG_CACHE_HOME:-$$HOME/.cache}/tickmesh/native/clippy" -- -D warnings

envtest: ## build etcd and kube-apiserver into the user's cache (once; needs Go)
	@tools/envtest/build.sh

helm: ## build helm into the user's cache (once; needs Go)
	@tools/helm/build.sh

crds: $(STAMP) ## write the custom resource definitions again
	@PYTHONPATH=pkg $(BIN)/python -m tickmesh.kube.generate .

lock: ## pin the dependencies again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate --extra dev --extra build pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate --extra operator -c requirements.lock pyproject.toml -o tools/image/runtime.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -c requirements.lock tools/image/build.in -o tools/image/build.lock

clean: ## remove what make made; state in .data stays
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache
