"""Models that the tests of the evaluation share: none of them changes a file of another."""

import pytest

from musclelora.training.defended_model import DefendedModel
from tests.planted import always, trained_model


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> DefendedModel:
    return trained_model(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> DefendedModel:
    """The same with a backdoor: `cf` means the label 1."""
    return trained_model(tmp_path_factory.mktemp("planted"), trigger="cf")


@pytest.fixture(scope="session")
def always_target(trained, tmp_path_factory) -> DefendedModel:
    """A model that calls every row the target: the strongest backdoor, and useless."""
    return always(trained, tmp_path_factory.mktemp("target"), (-9.0, 9.0))
