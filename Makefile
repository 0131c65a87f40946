PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Compiled modules are kept: else every job compiles the sources of torch and transformers again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install demo serve test fuzz test-postgres test-vllm test-modal smoke-modal lint bench bench-engine bench-reconcile bench-overload chaos clean reset

install: $(STAMP)

# torch goes first and with pip, which honours PIP_EXTRA_INDEX_URL and pip.conf, as for a CPU build; uv reads neither, and
# keeps the torch that is there.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group dev --editable .
	touch $(STAMP)

demo: install  ## the main job to its end: three experts and their router, trained, evaluated, live
	$(BIN)/python -m controlplane.demo

serve: install  ## admin and API on localhost
	$(BIN)/python -m controlplane.serve

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

fuzz: install  ## schemathesis against the API of a real web process, as a superuser and as a viewer
	SWITCHYARD_FUZZ_EXAMPLES=200 $(BIN)/python -m pytest tests/fuzz

bench: bench-engine

bench-overload: install  ## five times more clients than places: who is refused how soon, and who waits for whom
	PYTHONPATH=.:platform $(BIN)/python -m benchmarks.overload

bench-engine: install  ## what stacking, batching and many adapters cost; ratios side by side
	$(BIN)/python -m benchmarks.engine

bench-reconcile: install  ## what a round of the worker costs with 1,000 jobs at work and 5,000 runs waiting
	PYTHONPATH=.:platform $(BIN)/python -m benchmarks.reconcile

test-postgres: install  ## the same tests on PostgreSQL: that of DATABASE_URL, or Debian's package
	PYTHONPATH=.:platform $(BIN)/python -m tests.postgres --numprocesses auto --maxprocesses 4

test-vllm: install  ## the engine `http` against a vLLM of yours, on the tiny base: VLLM=/path/to/vllm
	@test -x "$(VLLM)" || { echo "Say where vLLM is: make test-vllm VLLM=/path/to/vllm"; exit 2; }
	SWITCHYARD_VLLM="$(VLLM)" $(BIN)/python -m pytest tests/workers/recipes/test_vllm.py

chaos: install  ## a thousand kills against real processes
	$(BIN)/python -m benchmarks.chaos

test-modal: install  ## the whole pipeline through the deployed app, on a control plane of our own
	$(BIN)/python -m pytest tests/workers/test_modal_pipeline.py

smoke-modal: install  ## a small job and one routed request on your account, for a few cents: it asks first
	$(BIN)/python -m workers.smoke

clean:  ## caches; what the installation has made stays
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . \( -path ./$(VENV) -o -path ./var \) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

reset: install  ## database, secrets, adapters, checkpoints: it lists them and asks first, or YES=1
	$(BIN)/python -m controlplane.reset $(if $(YES),--yes)
