# Verbs. Each prepares the virtual environment it needs, so any of them works in a fresh clone.
# PYTHON=... chooses the interpreter, ARGS=... is passed on (make test ARGS="-k resume").

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
ARGS ?=

# An interpreter that was asked for and is not the one in the environment makes the environment stale.
ifneq ($(strip $(PYTHON)),)
export PYTHON
ifneq ($(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null),$(shell cat $(READY) 2>/dev/null))
$(READY): FORCE
endif
endif

.PHONY: help demo test check bench chaos fuzz services nightly guards wheel docs format clean FORCE

help: ## show these verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(READY) ## an agent reads this repository and says what it is: no key, no network
	@$(BIN)/python -m loom.cli run "Summarize this repository" --model offline --root . $(ARGS)

test: $(READY) ## the test suite
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 $(ARGS)

check: $(READY) ## format, lint, import contracts, types, doors
	@scripts/check $(BIN)

bench: $(READY) ## the benchmarks, with hand-written loops as floors
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(READY) ## long crash tests: a kill at every durable boundary
	@$(BIN)/python -m pytest -q -m chaos --timeout 900 $(ARGS)

fuzz: $(READY) ## tens of thousands of spoilt model replies over sockets; prints what they cost
	@$(BIN)/python -m pytest -q -m fuzz --timeout 900 $(ARGS)

services: $(READY) ## tests against real services (PostgreSQL), started for them and stopped again
	@$(BIN)/python -m pytest -q -m services --timeout 300 tests/real_services $(ARGS)

nightly: $(READY) ## what takes minutes; each has a twin of seconds in `make test`
	@$(BIN)/python -m pytest -q -m nightly --timeout 3600 $(ARGS)

guards: $(READY) ## take marked guards out of the source one at a time, and want their tests to fail
	@$(BIN)/python scripts/guards $(ARGS)

wheel: $(READY) ## build the wheel, install it where nothing else is, run the README's ten lines with it
	@$(BIN)/python scripts/wheel $(ARGS)

docs: $(READY) ## the documentation: its code runs, its commands exist, its links resolve
	@$(BIN)/python -m pytest -q tests/test_docs.py $(ARGS)

format: $(READY) ## rewrite the sources as `make check` wants them
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .
	@$(BIN)/python tests/reference_page.py

clean: ## remove everything the other verbs made, the virtual environment included
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt scripts/bootstrap
	@scripts/bootstrap $(VENV)

FORCE:
