# Every target sets itself up: python3 (3.11 or later) is all that it needs.

.PHONY: demo test lint bench bench-full clean
.NOTPARALLEL:
.DEFAULT_GOAL := demo

VENV := .venv
BIN := $(VENV)/bin

demo: $(VENV)/installed-plot  ## solve real attention data on a cluster in this machine
	@$(BIN)/dresoftmax demo

test: $(VENV)/installed-test  ## run the tests and the examples in docstrings
	@$(BIN)/python -m pytest

lint: $(VENV)/installed-lint  ## check style, format and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --diff .; exit 1; }
	@$(BIN)/mypy --no-error-summary

bench: $(VENV)/installed-test  ## measure, in under five minutes
	@$(BIN)/python benchmarks/run.py

bench-full: $(VENV)/installed-bench  ## measure everything, beside all peers; ATTENTION=FOLDER adds data
	@$(BIN)/python benchmarks/run.py --full $(if $(ATTENTION),--attention '$(ATTENTION)')

clean:
	@rm -rf $(VENV)

# One stamp per extra; pip installs again only when pyproject.toml has changed.
$(VENV)/installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing dresoftmax[$*] into $(VENV) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo 'Python 3.11 or later is needed, and none was found on the path.' >&2; exit 1
