# Two commands on a fresh machine: `make demo` relabels eight photographs, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= mlimagenet

.PHONY: help install demo test lint docs clean

help:
	@echo "make demo   set up, relabel eight photographs that ship in Python packages, draw a picture sheet"
	@echo "make test   set up, run the test suite"
	@echo "make lint   ruff, mypy, import contracts"
	@echo "make docs   the documentation as a site, in site/"

# The stamp is newer than pyproject.toml when the environment has what it asks for.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[build,audit,ray,test,browser,docs,dev]'
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/python -m build.run --demo --out $(OUT)

test: install
	$(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	test -n "$$(git ls-files build)" # common .gitignore templates list build/

docs: install
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site mlimagenet mlimagenet-sheet.png
