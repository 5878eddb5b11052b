# Each target sets up what it needs in .venv first, so a fresh machine needs only Python 3.11 (with venv) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA_ROOT ?= data
SECONDS ?= 600
# The tests run in so many processes at once, each with a Ray of its own; the slow ones wait more than they compute.
JOBS ?= 3
SLOW_JOBS ?= 3
# A file for the tests that fail, which then do not end `make`: `python -m tests.again FILE` tries them once more, one at a time.
AGAIN ?=
# What reads, writes, prints and answers: a new Python changes that rather than what is trained and decided.
QUICK := cluster $(addprefix search/,cli design facts feedback journal preflight serving values views web) \
	$(addprefix search/test_,bad_input.py clocks.py faces.py) $(addprefix search/operations/test_,list.py status.py) \
	$(addprefix trainables/,checkpoints datasets inspection tasks test_config.py) test_readme.py
PYTEST := $(BIN)/python -m pytest --ignore tests/test_layers.py --ignore tests/test_words.py $(if $(AGAIN),--again-later=$(AGAIN))

.PHONY: setup run test test-all test-most test-quick test-versions check soak bench bench-search clean

setup: $(STAMP)

# Modules are compiled when they are first imported: most never are, and to compile all takes a minute. The compiled ones must be kept,
# or each of the thousand processes that the tests start would spend ten seconds on it.
unexport PYTHONDONTWRITEBYTECODE
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing the packages into $(VENV): about 3 GB, some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

run: setup
	$(BIN)/python -m search.run --space table3

test: setup
	$(PYTEST) -n $(JOBS) -m '(promise or not slow) and not soak'

test-all: test
	$(PYTEST) -n $(SLOW_JOBS) -m 'slow and not promise and not soak and not versions'

# All but those that take minutes each, as CI does.
test-most: test
	$(PYTEST) -n $(SLOW_JOBS) -m 'slow and not promise and not soak and not versions and not long'

# Half of the tests in a quarter of the time, for another Python: make test-quick VENV=.venv-3.13 PYTHON=python3.13
test-quick: setup
	$(PYTEST) -n $(JOBS) -m 'not slow and not soak' $(addprefix tests/,$(QUICK))

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_words.py

# The lowest and the newest versions that pyproject.toml allows, after a change of its ranges: 20 minutes, 5 GB of disk for a while.
test-versions: setup
	$(PYTEST) -m versions

soak: setup
	$(BIN)/python -m tests.faults.soak --seconds $(SECONDS)

bench: setup
	$(BIN)/python -m tests.bench.speed --data-root $(DATA_ROOT)
	$(BIN)/python -m tests.bench.timeline --data-root $(DATA_ROOT)
	$(BIN)/python tests/bench/tables.py digits
	$(BIN)/python tests/bench/tables.py mnist --data-root $(DATA_ROOT)
	$(BIN)/python -m tests.bench.scale
	$(BIN)/python -m tests.bench.selection
	$(BIN)/python -m tests.bench.rates
	$(BIN)/python -m tests.bench.serving

bench-search: setup
	$(BIN)/python -m tests.bench.replay $(if $(CURVES),--curves $(CURVES))
	$(BIN)/python -m tests.bench.sampled $(if $(CURVES),--curves $(CURVES))
	$(BIN)/python -m tests.bench.tabular
	$(BIN)/python -m tests.bench.reached
	$(BIN)/python -m tests.bench.deciding

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
