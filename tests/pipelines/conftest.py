"""Runs of the command in this process, on a tiny delivery, with a ZenML and an MLflow of their own."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import pipelines.launch  # noqa: F401  (ZenML wraps the standard output that it finds when it is imported)
from pipelines.cli import main
from tests.pipelines.deliveries import mlflow_of, write_config
from tests.tiny import tiny_backbone

Musclelora = Callable[..., Result]


@pytest.fixture(scope="session")
def temporary(tmp_path_factory) -> Path:
    """Where the command's temporary files go."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session")
def musclelora(temporary) -> Musclelora:
    """The command with these arguments."""

    def invoke(*arguments: str | Path) -> Result:
        progress, environment, tempdir = logging.getLogger("musclelora.progress"), dict(os.environ), tempfile.tempdir
        tempfile.tempdir = str(temporary)
        try:
            return CliRunner().invoke(main, [str(argument) for argument in arguments])
        finally:
            tempfile.tempdir = tempdir
            progress.handlers, progress.propagate = [], True  # the runner's streams are closed
            os.environ.clear()
            os.environ.update(environment)

    return invoke


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    tiny_backbone(folder)
    return folder


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """An MLflow database with all its tables, whose creation takes seconds: to be copied."""
    folder = tmp_path_factory.mktemp("mlflow")
    mlflow_of(folder).search_experiments(max_results=1)
    return folder / "mlflow.db"


@pytest.fixture
def delivery(tmp_path, backbone_folder, database) -> Path:
    """A folder of its own with a delivery, a sound `run.yaml` that names it, and an empty MLflow database."""
    folder = tmp_path / "delivery"
    write_config(folder, backbone_folder)
    shutil.copy(database, folder)
    return folder
