# `make` lists what there is. Everything is installed into .venv, from the pins of constraints.txt; a stamp for each set
# of packages keeps it from being installed again until the pins change.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINS := pyproject.toml constraints.txt requirements-demo.txt

RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
ALL := $(VENV)/.installed-all

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help train test test-all soak hub-check setup lint format type wheel clean

help: ## list the targets
	@echo 'make TARGET [PYTHON=python3.12] [ARGS="..."]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

train: $(RUN) ## run the main job; overrides go into ARGS, e.g. ARGS="seed=1 objective=supervised"
	$(BIN)/python -m uda.train +experiment=imdb $(ARGS)

test: $(DEV) ## run the fast tests; ARGS="-k name" selects
	$(BIN)/python -m pytest -m "not slow" -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: $(DEV) ## run every test, the slow ones too
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(DEV) ## kill train, augment and predict 100 times at random and compare; ARGS="--kills 6" is a short one
	$(BIN)/python scripts/soak.py $(ARGS)

hub-check: $(DEV) ## ask the hub whether it has what the options of data and model name; ARGS="yelp5" asks of some
	$(BIN)/python scripts/hub_check.py $(ARGS)

setup: $(ALL) ## install the package with every extra into .venv

lint: $(DEV) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV) ## sort imports, apply the safe fixes, format
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

type: $(DEV) ## check types
	$(BIN)/mypy uda

wheel: $(DEV) ## build the wheel into dist/
	rm -rf build dist/uda-*.whl
	$(BIN)/python -m build --wheel --outdir dist .

clean: ## remove builds, caches and .venv; outputs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . \( -path ./.git -o -path ./outputs -o -path ./multirun \) -prune -o \
		-type d -name __pycache__ -prune -exec rm -rf {} +

# The environment itself, made once.
$(VENV)/.created:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "uda needs Python 3.11 or newer; '$(PYTHON)' was not found." \
			"Install Python, or name one you have: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "uda needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." \
			"Install a newer one, or name one you have: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "uda needs Python's venv and ensurepip modules; '$(PYTHON)' comes without them." \
			"Install them (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

# The demo packages come by requirements-demo.txt: with their hashes, without their dependencies.
define install
$(PIP) install --no-deps --require-hashes -r requirements-demo.txt
$(PIP) install -c constraints.txt -e '.$(EXTRAS)'
endef

$(RUN): EXTRAS :=
$(RUN): $(VENV)/.created $(PINS)
	$(install)
	@touch $@

$(DEV): EXTRAS := [dev]
$(DEV): $(VENV)/.created $(PINS)
	$(install)
	@touch $(RUN) $@

$(ALL): EXTRAS := [augment,report,sweep,dev]
$(ALL): $(VENV)/.created $(PINS)
	$(install)
	@touch $(RUN) $(DEV) $@
