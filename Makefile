# make demo | test | lint | docs | clean. Needs git, make and Python 3.11 or newer with venv; the tests also want gcc.

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	command -v $$python >/dev/null 2>&1 && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
# A stamp is named after what it was installed from: other pins or dependencies install again, the same ones never.
WANTED := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
TRAIN_STAMP := $(VENV)/.train-$(WANTED)
DEV_STAMP := $(VENV)/.dev-$(WANTED)
# Most tests wait for a process or a screen: one worker more than there are cores. A file's tests stay together; the files come in their order, e2e (the longest) first.
WORKERS ?= -n $(shell expr $$(nproc) + 1) --dist loadfile --no-loadscope-reorder

.PHONY: help demo test lint docs clean

help:
	@echo "make demo   set everything up and fine-tune a small model under live view"
	@echo "make test   install what the tests need and run them"
	@echo "make lint   ruff, the type checker, the import contracts, docs up to date"
	@echo "make docs   write the pages that are made from the program"
	@echo "make clean  remove .venv and caches (never the state directory)"

demo: $(TRAIN_STAMP)
	@$(BIN)/llmops-tui demo $(DEMO)

test: $(DEV_STAMP)
	$(BIN)/python -m pytest $(WORKERS) $(TESTS)

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python -m llmops_tui.specs.reference settings | cmp -s - docs/settings.md || { echo "docs/settings.md is out of date: make docs" >&2; exit 1; }
	@$(BIN)/python -m llmops_tui.specs.reference specs | cmp -s - docs/specs.md || { echo "docs/specs.md is out of date: make docs" >&2; exit 1; }
	@$(BIN)/python -m llmops_tui.commands.reference | cmp -s - docs/cli.md || { echo "docs/cli.md is out of date: make docs" >&2; exit 1; }

docs: $(DEV_STAMP)
	$(BIN)/python -m llmops_tui.specs.reference settings > docs/.new && mv docs/.new docs/settings.md
	$(BIN)/python -m llmops_tui.specs.reference specs > docs/.new && mv docs/.new docs/specs.md
	$(BIN)/python -m llmops_tui.commands.reference > docs/.new && mv docs/.new docs/cli.md

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; install python3.11, or name one: make demo PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: $(PYTHON) has no venv; on Debian: apt install python3.11-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(TRAIN_STAMP): | $(VENV)/bin/python
	@echo "installing (once; torch alone is some 200 MB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,serve]'
	@rm -f $(VENV)/.train-*
	@touch $@

$(DEV_STAMP): | $(VENV)/bin/python
	@echo "installing (once; torch alone is some 200 MB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,serve,dev]'
	@rm -f $(VENV)/.dev-* $(VENV)/.train-*
	@touch $@ $(TRAIN_STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
