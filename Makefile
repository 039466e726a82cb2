.DEFAULT_GOAL := help
.PHONY: help demo demo-full test test-full check format bench faults pictures reference lock clean

VENV := .venv
BIN := $(VENV)/bin
READERS := build/readers
# A half-made environment carries no stamp and is made again.
READY := $(VENV)/.ready
READERS_READY := $(READERS)/.ready

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(READY) ## The whole way on the miniature world: CSVs to crops to classifier to predictions
	$(BIN)/croplake run --conf conf/local.yaml

demo-full: demo ## The demo, then its reports, a probe, similar crops, exports
	$(BIN)/croplake plan-fetch --conf conf/local.yaml
	$(BIN)/croplake report-dataset --conf conf/local.yaml
	$(BIN)/croplake probe-examples --conf conf/local.yaml
	$(BIN)/croplake evaluate-classifier --conf conf/local.yaml
	$(BIN)/croplake classify-photos --conf conf/local.yaml --sort-into build/sorted
	$(BIN)/croplake find-similar build/miniature/new_photos/boat_00.jpg --conf conf/local.yaml
	rm -rf build/examples  # an export of the crops before; what busy hosts gave meanwhile is more
	$(BIN)/croplake export-examples --conf conf/local.yaml --format webdataset --into build/examples
	$(BIN)/croplake export-model --conf conf/local.yaml --into build/model

test: $(READY) $(READERS_READY) ## All tests but the long ones
	$(BIN)/python -m pytest -m "not full"

test-full: $(READY) $(READERS_READY) ## All tests, the long ones too
	$(BIN)/python -m pytest

check: $(READY) ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(addprefix bench-,$(patsubst tests/benchmarks/bench_%.py,%,$(wildcard tests/benchmarks/bench_*.py))) ## All benchmarks; one: make bench-NAME

bench-catalog: $(READERS_READY)

bench-%: $(READY)
	$(BIN)/python -m tests.benchmarks.bench_$(subst -,_,$*)

faults: $(READY) ## Write the fault cases and what came of them in a run of fetch_crops
	$(BIN)/python -m tests.faults.page > tests/faults/README.md
	$(BIN)/python -m pytest tests/faults/test_faults_job.py -k all_faults
	cp build/fault_cases.md tests/faults/OUTCOMES.md

pictures: $(READY) ## Draw the README's pictures anew (needs chromium)
	$(BIN)/python -m tests.pictures

reference: $(READY) ## Write the configuration reference and its JSON Schemas from the models
	$(BIN)/python -m croplake.conf.reference conf

lock: $(READY) ## Resolve the dependencies anew into requirements.lock and tests/readers/requirements.lock
	$(BIN)/python -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	build/lock/bin/uv pip compile pyproject.toml --extra hdfs --extra similar --extra train --extra dev --generate-hashes --universal \
		--python-version 3.11 --no-header --upgrade -q -o requirements.lock
	build/lock/bin/uv pip compile tests/readers/requirements.in --generate-hashes --universal \
		--python-version 3.11 --no-header --upgrade -q -o tests/readers/requirements.lock

clean: ## Remove the environments, the lake, the miniature world and all caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis spark-warehouse lib/*.egg-info

$(READY): requirements.lock pyproject.toml
	@python=$$(sh deploy/preflight.sh) || exit $$?; echo "making $(VENV) (about 3 minutes)"; \
	$$python -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(READERS_READY): tests/readers/requirements.lock | $(READY)
	$(BIN)/python -m venv --clear $(READERS)
	$(READERS)/bin/python -m pip install --quiet --require-hashes -r $<
	touch $@
