"""Great Expectations suites in JSON files: further checks on the training rows, each with its outcome."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from great_expectations.exceptions import ExpectationNotFoundError
from great_expectations.expectations.registry import get_expectation_impl
from pydantic import Field, ValidationError

from musclelora.errors import ConfigError
from musclelora.frozen import Frozen
from musclelora.validation import expectations as own
from musclelora.validation.report import Outcome
from musclelora.validation.rules import Rule

KNOWN = [name for name in vars(own) if name.startswith("Expect")]


class _Meta(Frozen):
    """What the report calls it, says of it, and what follows where it does not hold."""

    rule: str = Field(min_length=1)
    sentence: str = Field(min_length=1)
    outcome: Outcome


class _Entry(Frozen):
    type: str
    kwargs: dict[str, Any]
    meta: _Meta


class _Suite(Frozen):
    name: str
    expectations: list[_Entry]
    meta: dict[str, Any] = Field({})


def read_suite(path: str) -> list[Rule]:
    """The rules of one file, in the form in which Great Expectations writes suites; `meta` of each says the rest.

    Raises `ConfigError` for a file that is none, an expectation that does not exist, or arguments that it refuses.
    """
    try:
        suite = _Suite.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"The suite {path} cannot be read: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ConfigError(
            f"The suite {path} is not as it should be: {where}: {problem['msg']}. Each expectation needs type, kwargs, "
            "and meta with rule, sentence and outcome (pass, warn, quarantine, stop)."
        ) from error
    return [_rule(path, entry) for entry in suite.expectations]


def _rule(path: str, entry: _Entry) -> Rule:
    try:
        expectation = get_expectation_impl(entry.type)(**entry.kwargs)
    except ExpectationNotFoundError as error:
        raise ConfigError(
            f"The suite {path} names {entry.type!r}, which is no expectation of the installed Great Expectations and "
            f"none of ours ({', '.join(KNOWN)}, in lower case with underscores)."
        ) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"The suite {path}: {entry.type} refuses its kwargs: {' '.join(str(error).split())[:300]}"
        ) from error
    return Rule(entry.meta.rule, entry.meta.sentence, entry.meta.outcome, expectation)


def needed_columns(rules: Sequence[Rule], columns: Collection[str]) -> None:
    """Raise `ConfigError` where a rule reads a column that the rows do not have."""
    for rule in rules:
        for key in ("column", "column_A", "column_B"):
            name = getattr(rule.expectation, key, None)
            if name is not None and name not in columns:
                raise ConfigError(
                    f"The check {rule.name} of a suite reads the column {name!r}, and the rows have "
                    f"{', '.join(sorted(columns))}. Name it in data.columns, or leave the check out."
                )
