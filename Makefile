# `make run` and `make test` do all of their own set-up. They need GNU make and Python 3.11 or later;
# everything else goes into .venv, from lock files with hashes.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PARALLEL := -n auto --maxprocesses 4 --dist worksteal
CAMPAIGNS := tests/campaigns
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
LOCK := UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/python -m uv pip compile --quiet --no-config \
	--universal --python-version 3.11 --generate-hashes --no-strip-extras

GENERATED := ingesteddata practicemodels production_deployment reports
CACHES := .coverage .hypothesis tests/campaigns/contract/.schemathesis .mypy_cache .pytest_cache .ruff_cache htmlcov

# If .venv cannot import pip, it is incomplete, or its Python was upgraded or removed: build it again.
BROKEN := $(shell test -d .venv && ! $(BIN)/python -c 'import pip' 2>/dev/null && echo FORCE)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run serve demo test campaigns coverage lint audit engines bench sweep cron sample lock clean reset FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

run: .venv/.runtime ## run the whole process once, as cron does (ARGS="..." is passed on)
	@$(BIN)/python fullprocess.py $(ARGS)

serve: .venv/.runtime ## serve the API and the dashboard (ARGS="..." is passed on)
	@$(BIN)/python app.py $(ARGS)

demo: .venv/.runtime ## make a company a year on in demo/, and serve it (ARGS=--no-serve)
	@$(BIN)/python -m benchmarks.demo $(ARGS)

test: .venv/.dev ## run all tests except the campaigns (ARGS="..." is passed on to pytest)
	@$(BIN)/python -m pytest $(PARALLEL) --ignore $(CAMPAIGNS) $(ARGS)

campaigns: .venv/.dev ## inject faults and damage, and feed hostile files (many minutes)
	@$(BIN)/python -m pytest $(PARALLEL) $(CAMPAIGNS) $(ARGS)

coverage: .venv/.dev ## run tests and campaigns, and list the lines that none of them reaches
	@$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term-missing:skip-covered $(ARGS)

lint: .venv/.dev ## check style, format, and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

audit: .venv/.dev ## compare the locked packages with known vulnerabilities (needs the network)
	@$(BIN)/python -m pip_audit --disable-pip --strict --requirement requirements.lock

engines: .venv/.runtime ## add Dask and Ray, which compute the parts of large data on a cluster
	@$(BIN)/python -m pip freeze > .venv/pinned.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .venv/pinned.txt \
		--requirement requirements-engines.txt

bench: .venv/.dev ## measure speed and scale in 20 minutes, and write docs/scale.md (ARGS=--all: hours)
	@$(BIN)/python -m benchmarks $(ARGS)

sweep: .venv/.dev ## break a run at every system call that writes (two hours; ARGS='--sample 60')
	@$(BIN)/python -m benchmarks.sweep --double 500 $(ARGS)

cron: ## print the crontab lines for this folder (install: (crontab -l; make -s cron) | crontab -)
	@FOLDER="$$(pwd)" awk '/^ATTRITION=/ { $$0 = "ATTRITION=" ENVIRON["FOLDER"] } { print }' cronjob.txt

sample: .venv/.runtime ## write sourcedata/ and testdata/ of the sample company again (same seed, same bytes)
	@$(BIN)/python -m benchmarks.simulation sample --out . $(ARGS)

lock: .venv/.dev ## write the lock files from requirements*.txt (newest allowed: ARGS=--upgrade)
	@$(LOCK) $(ARGS) --output-file requirements.lock requirements.txt
	@$(LOCK) $(ARGS) --constraint requirements.lock --output-file requirements-dev.lock requirements-dev.txt

clean: ## remove .venv and caches; data, models, history and reports stay
	@rm -rf .venv $(CACHES)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

reset: ## remove everything that was generated, INCLUDING HISTORY AND PRODUCTION (needs CONFIRM=yes)
	@test "$(CONFIRM)" = yes || { \
		echo "make reset removes $(GENERATED): the deployed model, the history of all runs and the" \
			"reports are lost. sourcedata, testdata, access and contacts (what people entered) stay. To proceed:" \
			"make reset CONFIRM=yes" >&2; \
		exit 1; }
	@rm -rf $(GENERATED)

# The stamps are written last, so that their existence means the installation completed.
.venv/.runtime: requirements.lock $(BROKEN) | .venv/bin/python
	$(call install,requirements.lock)
	@touch $@

# The dev lock contains the runtime lock, pin by pin: `make run` after `make test` installs nothing.
.venv/.dev: requirements-dev.lock requirements.lock $(BROKEN) | .venv/bin/python
	$(call install,requirements-dev.lock)
	@touch .venv/.runtime $@

define install
@echo "installing dependencies (once, about a minute)" >&2
@$(PIP) --requirement $(1) || { \
	echo "make: installing $(1) failed, the reason is above. The first set-up needs the network;" \
		"run the same command again to continue." >&2; \
	exit 1; }
endef

.venv/bin/python: $(BROKEN)
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: found no '$(PYTHON)', expected Python 3.11 or later. Install it (Debian: apt install" \
			"python3 python3-venv) or name another: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: '$(PYTHON)' is $$($(PYTHON) -V 2>&1), expected Python 3.11 or later. Name another:" \
			"make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: '$(PYTHON)' cannot create virtual environments. Install its venv module" \
			"(Debian: apt install python3-venv) and run the same command again" >&2; \
		exit 1; }
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }
