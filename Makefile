# Two commands for a fresh machine: `make reproduce` and `make test`. Both create .venv first.
PYTHON ?= python3
LOWEST_PYTHON ?= python3.10
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: help environment reproduce test test-lowest lint docs clean

help:
	@echo "make reproduce    train an autoencoder and a VAE without and with FFL on embedded photographs"
	@echo "make test         run the tests"
	@echo "make test-lowest  run the tests on the lowest allowed versions of Python and of all packages, in .venv-lowest"
	@echo "make lint         check style and types"
	@echo "make docs         build the site of docs/ and of the docstrings into build/site"
	@echo "make clean        remove .venv, .venv-lowest and outputs"
	@echo "Variables: PYTHON=python3.12 (3.10 or newer), LOWEST_PYTHON=python3.10 (3.10 to 3.12, as old packages need),"
	@echo "           PIP_ARGS='--index-url ...' (for example a CPU build of torch), TESTS=tests/losses (a part of them)"

environment: .venv/installed

# The stamp is written last, so an installation that was cut short starts again.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "error: Python 3.10 or newer is needed; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable '.[dev]'
	@touch $@

reproduce: environment
	$(BIN)/python scripts/reproduce.py table=photos
	$(BIN)/python scripts/reproduce.py table=photos_vae

test: environment lint
	$(BIN)/python -m pytest --numprocesses auto $(TESTS)

# Every lower bound in pyproject.toml becomes the one version that pip may take: "torch>=2.5" the constraint torch==2.5.
.venv-lowest/installed: pyproject.toml
	$(LOWEST_PYTHON) -m venv .venv-lowest
	grep -oE '"[a-z0-9-]+>=[0-9.]+' pyproject.toml | sed 's/"//; s/>=/==/' | sort -u > .venv-lowest/constraints.txt
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
	    --constraint .venv-lowest/constraints.txt --editable '.[dev]'
	@touch $@

test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest --numprocesses auto $(TESTS)

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The theme announces its successor unless told not to.
docs: environment
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "built build/site/index.html"

clean:
	rm -rf .venv .venv-lowest outputs build *.egg-info
