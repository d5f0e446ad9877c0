# make grade: set up, then grade the official starter on the small competition.   make test: set up, then run all tests.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SUBMISSION ?= baseline_finetune
TASK ?= competition_small
RUNS ?= 64

.PHONY: grade test test-slow test-studies test-browser test-gpu test-ray test-faults test-matrix test-fuzz bench card clean help

grade: $(VENV)/installed  ## grade SUBMISSION=baseline_finetune on TASK=competition_small with RUNS=64 (the default target)
	$(RUN) -m local_eval grade $(SUBMISSION) --task $(TASK) --runs $(RUNS)

test: $(VENV)/installed  ## ruff, then all tests
	$(VENV)/bin/ruff check .
	$(RUN) -m pytest

test-slow: $(VENV)/installed  ## the tests that `make test` leaves out for their time
	$(RUN) -m pytest -m slow

test-studies: $(VENV)/installed  ## the figures of the studies: errors and coverage of projection, intervals and measures
	$(RUN) -m pytest -m studies tests/metric tests/studies

test-browser: $(VENV)/installed  ## look at the report page in Chromium, if there is one
	$(RUN) -m pytest -n 0 -m browser tests/report/page

test-gpu: $(VENV)/installed  ## the tests that need a GPU, which is hidden from all others
	$(RUN) -m pytest -n 0 -m gpu

test-matrix: $(VENV)/installed  ## try torch 2.6 to the newest with Python 3.11 to 3.14, where they are to be had
	$(RUN) .ci/test_matrix.py $(MATRIX)

test-fuzz: $(VENV)/installed  ## ten thousand damaged and hostile files; writes what came of them into docs/safety.md
	FUZZ_TABLE=docs/safety.md $(RUN) -m pytest -n 0 -m fuzz tests/fuzz

test-ray: $(VENV)/installed  ## the tests of --engine ray, with Ray installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-cluster.txt
	$(RUN) -m pytest -n 0 -m ray tests/cluster

test-faults: $(VENV)/installed  ## the fault programme; writes its table into docs/safety.md
	FAULTS_TABLE=docs/safety.md $(RUN) -m pytest -n 0 -m faults tests/faults

bench: $(VENV)/installed  ## time the kit beside the plain way
	$(RUN) -m local_eval bench

card: $(VENV)/installed  ## try out this machine's GPU in nine minutes; one page says what it found
	$(RUN) -m local_eval bench --card

$(VENV)/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:  ## remove outputs/ and .venv
	rm -rf outputs $(VENV)

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1  \2/p' $(MAKEFILE_LIST) | awk '{ name = $$1; $$1 = ""; printf "%-13s%s\n", name, $$0 }'
