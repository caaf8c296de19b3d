# `make quickstart`: from a fresh clone to a registered model.  `make test`: the tests.
# `make airflow-demo`: retraining on a schedule, by an Airflow of its own (docs/orchestrators.md).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
AIRFLOW_VENV ?= .venv-airflow

.PHONY: quickstart test check airflow-demo install install-dev

quickstart: install
	$(BIN)/musclelora run configs/quickstart.yaml

test: install-dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

airflow-demo: install $(AIRFLOW_VENV)/.installed
	$(BIN)/python -m benchmarks.airflow_demo --airflow $(AIRFLOW_VENV)/bin

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# torch first and alone: of the newest releases pip would fetch a build of several gigabytes.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[offline]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[offline,dev]"
	touch $@

# Airflow needs other versions of pydantic and SQLAlchemy than ZenML: it cannot share $(VENV).
$(AIRFLOW_VENV)/.installed: constraints-airflow.txt
	test -x $(AIRFLOW_VENV)/bin/python || $(PYTHON) -m venv $(AIRFLOW_VENV)
	$(AIRFLOW_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(AIRFLOW_VENV)/bin/python -m pip install --quiet -c constraints-airflow.txt apache-airflow apache-airflow-providers-celery redis
	touch $@
