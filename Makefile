# Short verbs; each works on a fresh clone with Python 3.11+, git and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test check bench slow format clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "archgrad needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup          ## search, derive, train beside controls, export and report, on real images
	$(BIN)/archgrad demo

test: setup          ## every test but the slow ones, in two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: setup          ## the tests that take minutes
	$(BIN)/python -m pytest -m slow --timeout 3600

check: setup         ## lint, formatting, strict types, doctests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q --doctest-modules src/archgrad
	$(BIN)/python -m pytest -q tests/test_documents.py

bench: setup         ## the measurements behind the numbers in the documents
	$(BIN)/python benchmarks/run_all.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache
