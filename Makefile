# The main commands are `make run` and `make test`; `make` lists all of them.
# Needs make, and Python 3.11 to 3.14 with venv and pip. Everything is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
export VENV

COMPILE = uv pip compile pyproject.toml --universal --no-annotate --no-header --quiet

.DEFAULT_GOAL := help
.PHONY: help run test coverage install lint words settings rules chart format typecheck test-fast test-faults chaos bench docs check openapi lock clean

help: ## Show this list
	@echo "Penstock. Start with: make run"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo
	@echo "  Options: PYTHON=python3.12 (which Python), ARGS=... (arguments for run, test and bench)"

run: install ## Start the whole pipeline and run a demo (ARGS=--exit: stop after it)
	@$(BIN)/penstock up --demo $(ARGS)

test: install ## Run all tests in two processes (ARGS are passed to pytest, such as ARGS=-x)
	@$(BIN)/python -m pytest -n 2 --dist loadscope $(ARGS)

coverage: install ## Run all tests and measure coverage, in child processes too; at least 90 %
	@$(BIN)/python -m pytest -n 2 --dist loadscope --cov --cov-report=term $(ARGS)

install: ## Install everything into .venv; does nothing when it is installed
	@command -v $(PYTHON) >/dev/null || { echo "Penstock needs Python 3.11 to 3.14; there is no $(PYTHON)."; exit 2; }
	@$(PYTHON) scripts/install.py

lint: install ## Check style, format and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(PYTHON) scripts/check_words.py

words: ## Find words that make a text hard to read (ARGS=PATH: only there)
	@$(PYTHON) scripts/check_words.py $(ARGS)

rules: install ## Write the PrometheusRule and the dashboards of k8s from deploy/
	@$(BIN)/python scripts/prometheus_rule.py
	@$(BIN)/python scripts/grafana_dashboards.py

chart: install ## Make the Helm chart in dist/chart
	@$(BIN)/python scripts/helm_chart.py dist/chart

format: install ## Format the code and apply the automatic fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

typecheck: install ## Check types (mypy --strict)
	@$(BIN)/mypy

# The main tests of each part, on Redis and SQLite; CI runs all tests on all servers.
FAST = tests/unit tests/integration/jobs/test_submit_and_claim.py tests/integration/jobs/test_fence_and_ends.py \
	tests/integration/billing/test_consumer.py tests/integration/billing/test_budgets.py \
	tests/integration/billing/test_close.py

test-fast: install ## Run the unit tests and the quickest integration tests (under a minute)
	@$(BIN)/python -m pytest -m "not slow" -k "not postgresql and not valkey" $(FAST) $(ARGS)

test-faults: install ## Run the fault tests: kill -9, restarts, lost leases, drains
	@$(BIN)/python -m pytest tests/faults $(ARGS)

chaos: install ## Inject random faults under load (SECONDS=60 SEED=...); prints one JSON object
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: install ## Measure throughput and latency
	@$(BIN)/python -m bench $(ARGS)

docs: install ## Build the documentation into site/; every warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: ## Run exactly what CI runs
	@bash .ci/run

openapi: install ## Write tests/contract/openapi.json, for review
	@$(BIN)/python -m tests.support.openapi

settings: install ## Write .env.example and docs/settings.md from core/settings
	@$(BIN)/python -m tests.support.settings_reference

lock: ## Resolve the pinned requirements again (needs uv)
	@$(COMPILE) requirements/torch.in --extra cpu --extra test --extra docs \
		--excludes requirements/excludes.txt -o requirements/cpu.lock
	@$(COMPILE) --extra gpu -o requirements/gpu.lock
	@$(COMPILE) -c requirements/cpu.lock -o requirements/core.lock
	@$(COMPILE) requirements/torch.in --extra cpu -c requirements/cpu.lock \
		--excludes requirements/excludes.txt -o requirements/worker-cpu.lock

clean: ## Remove caches and the environment; keeps .penstock (your data)
	@rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
