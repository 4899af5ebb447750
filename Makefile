# make            lint and fast tests          make check   the small tier of everything slower
# make demo       the whole chain on digits    make soak    the deep tier
# Everything installs itself into .venv first; the system packages that a target wants are named when they are missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
TORCH := torch==2.13.0
DATA := sktime==1.2.0 river==0.26.1
# Tests start hundreds of processes: none need compile what another has.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all demo lint test check soak bench sample evidence latency mcu theory clean

all: lint test

$(BIN)/.installed: setup.cfg setup.py pyproject.toml edgeticket/_watch.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[search,images,picture,poc,cluster,report,rollout,sign,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(DATA)
	touch $@

demo: $(BIN)/.installed
	$(BIN)/edgeticket run sample_models/demo.yaml --overwrite

lint: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(BIN)/.installed
	$(THREADS) $(BIN)/pytest -n 2 --dist loadfile -m 'not slow and not soak'

check: $(BIN)/.installed
	$(THREADS) $(BIN)/pytest -n 2 --dist loadfile -m 'slow and not soak and not alone'
	$(THREADS) $(BIN)/pytest -m alone

soak: $(BIN)/.installed
	$(THREADS) $(BIN)/pytest -m soak

bench: $(BIN)/.installed
	$(THREADS) $(BIN)/python docs/evidence/bench.py

evidence: $(BIN)/.installed
	$(THREADS) $(BIN)/python docs/evidence/run.py

latency: $(BIN)/.installed
	$(THREADS) $(BIN)/python docs/evidence/latency.py

mcu: $(BIN)/.installed
	$(BIN)/python docs/evidence/mcu.py
	$(BIN)/python docs/evidence/cores.py

theory: $(BIN)/.installed
	$(BIN)/python docs/evidence/theory.py

sample: $(BIN)/.installed
	$(THREADS) $(BIN)/python -m sample_models.make

clean:
	rm -rf $(VENV) build dist runs *.egg-info edgeticket/*.so .pytest_cache .mypy_cache .ruff_cache
