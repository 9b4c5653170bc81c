# Two commands for ever: `make serve` and `make test`. The rest is for those who change the house.
PORT   ?= 9642
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: serve install test check format lock bench clean

serve: libgomp $(VENV)/.serve-installed
	@exec $(BIN)/atrium serve --port $(PORT)

install: libgomp $(VENV)/.serve-installed

# The engine's library needs GNU OpenMP; without it the first load would fail long after this line could have told.
.PHONY: libgomp
libgomp:
	@$(PYTHON) scripts/check_system.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# An interrupted install leaves no stamp, so the next run goes on from there.
$(VENV)/.serve-installed: requirements/serve.txt pyproject.toml | $(BIN)/python
	@echo "Installing what Atrium needs into $(VENV): a minute or two, once."
	$(PIP) install --quiet --require-hashes -r requirements/serve.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test-installed: requirements/test.txt $(VENV)/.serve-installed
	$(PIP) install --quiet --require-hashes -r requirements/test.txt
	@touch $@

# Whole files go to a process each, since their tests share servers: in the order of the folders, which share some too.
WORKERS ?= 2
test: libgomp $(VENV)/.test-installed
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

check: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(VENV)/.test-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Hashed, and without the address of any index: pip takes the mirror that the machine is set up for.
LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11
lock: $(VENV)/.test-installed
	$(LOCK) --extra test --output-file requirements/test.txt pyproject.toml requirements/build.in
	$(LOCK) --constraint requirements/test.txt --output-file requirements/serve.txt pyproject.toml requirements/build.in

# `make bench EFFORT=--short` is a look for regressions; the whole takes most of an hour on two cores.
bench: $(VENV)/.test-installed
	$(BIN)/python -m bench $(EFFORT)
	$(BIN)/python -m bench.relay $(EFFORT)
	$(BIN)/python -m bench.checks
	$(BIN)/python -m bench.stores

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
