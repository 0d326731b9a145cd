# Everything below works on a machine that has only Python 3.10+ and make.
PYTHON ?= python3
BIN := .venv/bin
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo)
# Four processes keep two cores busy: tests of timeouts and kills wait much of their time.
PARALLEL := -n 4 --dist worksteal --durations=10
EXTRAS := postgres sandbox xlsx bigquery clickhouse delta iceberg s3

.PHONY: help demo test test-long test-dbt test-browser picture chromium test-container test-ducklake test-orchestrators demo-workers test-warehouse test-lowest test-newest test-pythons faults safeguards soak soak-warehouse check format docs shape bench lock clean

help:  ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

demo: .venv/ready  ## load 20,000 enrollments from a local API into DuckDB; no key needed
	@$(BIN)/unify-source demo

test: .venv/ready  ## run the tests, and list the ten slowest
	$(BIN)/python -m pytest $(PARALLEL)

test-long: .venv/ready  ## run the rarer cases that `make test` leaves out
	$(BIN)/python -m pytest $(PARALLEL) -m "long and not lane"

test-dbt: .venv/ready .venv-dbt/ready  ## build and test the models with dbt, on DuckDB and Postgres
	$(BIN)/python -m pytest -m dbt tests/runs/analysis

test-browser: .venv/ready chromium  ## render the report in headless Chromium
	$(BIN)/python -m pytest -m browser tests/runs/analysis

picture: .venv/ready chromium  ## draw docs/report.png again
	$(BIN)/python docs/picture.py

chromium:  ## install Debian's Chromium where there is no browser
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  $(AS_ROOT) apt-get update -qq && \
	  $(AS_ROOT) apt-get install -y -qq --no-install-recommends chromium; }

test-orchestrators: .venv/ready .venv-dagster/ready .venv-airflow/ready .venv-prefect/ready  ## load with Dagster, Airflow and Prefect
	.venv-dagster/bin/python -m pytest -m dagster --durations=5 tests/orchestrators
	$(BIN)/python -m pytest -m "airflow or prefect" --durations=5 tests/orchestrators

demo-workers: .venv/ready .venv-airflow/ready  ## load four accounts on one worker, on two, and kill one of them
	command -v redis-server >/dev/null || { \
	  $(AS_ROOT) apt-get update -qq; \
	  $(AS_ROOT) apt-get install -y -qq --no-install-recommends redis-server; }
	$(BIN)/python benchmarks/two_workers.py

test-warehouse: .venv-warehouse/ready .venv-bigquery/ready test-ducklake  ## try lakes and warehouses, and write what holds into docs/destinations.md
	UNIFY_BIGQUERY_EMULATOR=$(CURDIR)/.venv-bigquery .venv-warehouse/bin/python -m pytest \
	  -m "(lane or promise) and not matrix" --tables docs/destinations.md tests

test-ducklake: .venv-ducklake/ready  ## try DuckLake, with the last DuckDB that has it as a wheel, and write what holds
	.venv-ducklake/bin/python -m pytest -m ducklake --tables docs/destinations.md tests/runs/test_promises.py \
	  tests/destinations/test_destinations.py tests/destinations/test_ducklake.py

test-container: .venv/ready  ## take the steps of the Dockerfile one by one in a chroot of Debian, as root
	command -v debootstrap >/dev/null || { \
	  $(AS_ROOT) apt-get update -qq && \
	  $(AS_ROOT) apt-get install -y -qq --no-install-recommends debootstrap; }
	$(AS_ROOT) $(BIN)/python -m pytest -m container tests/docs

safeguards: .venv/ready  ## take out one safeguard at a time, and see its test fail
	$(BIN)/python tests/safeguards.py

soak: .venv/ready  ## kill runs, and start two at once, fifty times instead of a few
	UNIFY_TEST_ROUNDS=50 $(BIN)/python -m pytest -m "rounds and not lane" --durations=10

# Four times five, each time anew: Iceberg slows down with every snapshot of a table.
soak-warehouse: .venv-warehouse/ready .venv-bigquery/ready  ## kill runs, and start two at once, twenty times on each lake and warehouse
	for again in 1 2 3 4; do \
	  UNIFY_TEST_ROUNDS=5 UNIFY_BIGQUERY_EMULATOR=$(CURDIR)/.venv-bigquery .venv-warehouse/bin/python -m pytest \
	    -m "rounds and lane and promise and not matrix" --durations=10 tests || exit 1; \
	done

faults: .venv-warehouse/ready  ## try every fault in every place, and write how each ends into docs/reliability.md
	.venv-warehouse/bin/python -m pytest -n 4 -m matrix -k "duckdb or postgres or (Delta and folder) or (S3 and outages)" \
	  --matrix docs/reliability.md tests/runs/test_faults.py tests/destinations/test_outages.py

check: .venv/ready  ## run the gate: format, lint, types, order of imports, shape of the code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python benchmarks/shape.py --check

format: .venv/ready  ## format the code, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/ready  ## rewrite what the pages take from the code
	$(BIN)/python docs/generate.py

shape: .venv/ready  ## print how long files and functions are; CHECK=1 fails beyond the limits
	$(BIN)/python benchmarks/shape.py $(if $(CHECK),--check)

bench: .venv/ready  ## measure this connector beside what you would write instead, and write it into docs/benchmarks.md
	$(BIN)/python benchmarks/compare.py --page docs/benchmarks.md

lock: .venv/ready  ## raise requirements.lock and requirements-warehouse.lock to the newest versions
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.10 --no-annotate \
	  --extra postgres --extra sandbox --extra xlsx --group dev pyproject.toml --output-file requirements.lock \
	  --custom-compile-command "make lock"
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.10 --no-annotate \
	  $(EXTRAS:%=--extra %) --group dev --group warehouse pyproject.toml \
	  --output-file requirements-warehouse.lock --custom-compile-command "make lock"

test-lowest:  ## run the tests with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python \
	  --resolution lowest-direct --editable '.[postgres,sandbox,xlsx]' --group dev
	.venv-lowest/bin/python -m pytest -n 2

test-newest:  ## run the promises with the newest version of every dependency
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install --quiet uv
	.venv-newest/bin/uv pip install --quiet --python .venv-newest/bin/python --upgrade \
	  --resolution highest --editable '.[postgres,sandbox,xlsx]' --group dev
	.venv-newest/bin/python -m pytest -n 2 -m "promise and not lane"

test-pythons:  ## run the demo and the promises on the oldest and newest Python that are here
	$(PYTHON) tests/pythons.py

clean:  ## remove the environments and caches
	rm -rf .venv .venv-lowest .venv-newest .venv-3.* .venv-warehouse .venv-bigquery .venv-dbt .venv-ducklake .venv-dagster .venv-airflow .venv-prefect .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch .venv/ready

.venv-warehouse/ready: requirements-warehouse.lock
	$(PYTHON) -m venv .venv-warehouse
	.venv-warehouse/bin/pip install --quiet --disable-pip-version-check --requirement $<
	.venv-warehouse/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv-bigquery/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The emulator of BigQuery needs Python 3.11 or newer: make PYTHON=python3.12 test-warehouse")'
	$(PYTHON) -m venv .venv-bigquery
	.venv-bigquery/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv-bigquery/bin/pip install --quiet --disable-pip-version-check --group bigquery-emulator
	touch $@

.venv-ducklake/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-ducklake
	.venv-ducklake/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv-ducklake/bin/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	.venv-ducklake/bin/pip install --quiet --disable-pip-version-check --group ducklake
	.venv-ducklake/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv-dbt/ready: pyproject.toml
	$(PYTHON) -m venv .venv-dbt
	.venv-dbt/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv-dbt/bin/pip install --quiet --disable-pip-version-check --group dbt
	touch $@

.venv-dagster/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-dagster
	.venv-dagster/bin/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	.venv-dagster/bin/pip install --quiet --disable-pip-version-check --editable '.[dagster]' dagster-webserver
	touch $@

.venv-airflow/ready: pyproject.toml
	$(PYTHON) -m venv .venv-airflow
	.venv-airflow/bin/pip install --quiet --disable-pip-version-check uv
	.venv-airflow/bin/uv pip install --quiet --python .venv-airflow/bin/python \
	  --editable '.[airflow,postgres]' 'apache-airflow[celery,postgres]'
	touch $@

.venv-prefect/ready: pyproject.toml
	$(PYTHON) -m venv .venv-prefect
	.venv-prefect/bin/pip install --quiet --disable-pip-version-check uv
	.venv-prefect/bin/uv pip install --quiet --python .venv-prefect/bin/python --editable . 'prefect>=3'
	touch $@
