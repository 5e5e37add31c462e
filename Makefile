# Two commands on a fresh machine: `make demo` relabels eight photographs, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= mlimagenet

.PHONY: help install demo test test-oldest lint docs clean

help:
	@echo "make demo   set up, relabel eight photographs that ship in Python packages, draw a picture sheet"
	@echo "make test   set up, run the test suite"
	@echo "make test-oldest   set up with the oldest releases that the loader accepts, run its tests"
	@echo "make lint   ruff, mypy, import contracts"
	@echo "make docs   the documentation as a site, in site/"

# The stamp is newer than pyproject.toml once the environment meets its requirements.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is required; this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): PyTorch and others, several gigabytes, minutes"
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[build,audit,ray,test,browser,docs,dev]'
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/python -m build.run --demo --out $(OUT)

test: install
	$(BIN)/python -m pytest -n 2

# Loader tests only; the stand-in for the Hub needs a recent huggingface-hub.
test-oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c tests/oldest.txt -e '.[build,audit,test]'
	$(VENV)-oldest/bin/python -m pytest -n 2 tests --ignore tests/pipeline --ignore tests/faults --ignore tests/browser \
	    --ignore tests/test_docs.py --ignore tests/test_names.py --ignore tests/annotations/test_hub.py \
	    --ignore tests/experiments --ignore tests/benchmarks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	test -n "$$(git ls-files build)" # common .gitignore templates exclude build/

docs: install
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site mlimagenet mlimagenet-sheet.png
