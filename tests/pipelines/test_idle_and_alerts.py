"""Steps that find nothing to do, and messages to people."""

import inspect
import subprocess
import sys
from types import SimpleNamespace
from typing import Annotated

import pytest

from musclelora.governance.enforcement import GateInconclusiveError, GateRefusedError
from steps import alerting
from steps.idle import Idle, unless_idle

NOTHING = Idle(reason="nothing changed")


@unless_idle
def one(text: str, numbers: list[int]) -> Annotated[str, "said"]:
    return f"{text} {sum(numbers)}"


@unless_idle
def two(text: str) -> tuple[Annotated[str, "first"], Annotated[int, "second"]]:
    return text, len(text)


@unless_idle
def none(text: str) -> None:
    raise AssertionError(text)


def test_a_step_with_all_its_inputs_does_its_work():
    assert one("sum", [1, 2]) == "sum 3"
    assert two(text="abc") == ("abc", 3)
    with pytest.raises(AssertionError, match="done"):
        none("done")


@pytest.mark.parametrize("arguments", [(NOTHING, [1]), ("sum", [1, NOTHING])], ids=["input", "among a list"])
def test_a_step_with_an_idle_input_returns_idle(arguments):
    assert one(*arguments) == NOTHING


def test_every_output_of_an_idle_step_is_idle():
    assert two(NOTHING) == (NOTHING, NOTHING)
    assert none(NOTHING) is None


def test_annotations_say_that_inputs_and_outputs_may_be_idle():
    signature = inspect.signature(two)
    assert signature.parameters["text"].annotation == str | Idle
    assert signature.return_annotation == tuple[Annotated[str | Idle, "first"], Annotated[int | Idle, "second"]]
    assert inspect.signature(one).parameters["numbers"].annotation == list[int | Idle]
    assert inspect.signature(none).return_annotation is None


class Alerter:
    """A stack's alerter that takes messages, does not, or fails."""

    name = "chat"

    def __init__(self, answer):
        self.answer, self.posted = answer, []

    def post(self, message):
        self.posted.append(message)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def stack(monkeypatch):
    """The active stack has this alerter."""

    def with_alerter(alerter):
        client = SimpleNamespace(active_stack=SimpleNamespace(alerter=alerter))
        monkeypatch.setattr(alerting, "Client", lambda: client)
        return alerter

    return with_alerter


def test_an_alert_is_logged_without_an_alerter(stack, caplog):
    stack(None)
    alerting.raise_alert("version 3 is refused")
    assert caplog.messages == ["ALERT: version 3 is refused"]


def test_an_alerter_gets_the_message(stack, caplog):
    alerter = stack(Alerter(True))
    alerting.raise_alert("version 3 is refused")
    assert alerter.posted == ["version 3 is refused"]
    assert caplog.messages == ["ALERT: version 3 is refused"]


@pytest.mark.parametrize("answer", [False, ConnectionError("no route")], ids=["not taken", "failing"])
def test_a_message_that_is_not_taken_is_logged_and_stops_nothing(stack, caplog, answer):
    stack(Alerter(answer))
    alerting.raise_alert("version 3 is refused")
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("ALERT not delivered: the alerter 'chat'")


@pytest.mark.parametrize("error", [GateRefusedError("no"), GateInconclusiveError("who knows")])
def test_the_gates_word_is_not_told_twice(stack, caplog, error):
    alerter = stack(Alerter(True))
    alerting.alert_failure(error)
    assert (alerter.posted, caplog.messages) == ([], [])


def test_the_first_look_loads_neither_zenml_nor_torch():
    """They would take longer than the look: unchanged rows are answered in seconds."""
    script = "import sys, pipelines.first_look; print(sorted({'torch', 'transformers', 'zenml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
