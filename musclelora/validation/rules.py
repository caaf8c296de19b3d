"""What is expected of which rows, in plain words and as expectations, and what follows if it does not hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd

from musclelora.data.records import REQUIRED
from musclelora.validation import expectations as own
from musclelora.validation.characters import Spots, find_invisible, find_mixed_script
from musclelora.validation.config import ValidationConfig
from musclelora.validation.report import Outcome

UNSEEN = ("invisible_characters", "homoglyphs")  # rules that nobody breaks by accident in this way


@dataclass(frozen=True, eq=False)
class Rule:
    """An expectation on the frame of one dataset (columns of the rows, and `key`, the text key).

    `failure` is the outcome if it does not hold; `spots` finds the places to show in the texts that failed.
    """

    name: str
    sentence: str
    failure: Outcome
    expectation: Any
    spots: Callable[[Sequence[str]], Spots] | None = None


def form_rules() -> list[Rule]:
    """What every other rule relies on."""
    return [
        Rule(
            "columns",
            f"The rows have the columns {', '.join(REQUIRED)}.",
            "stop",
            gxe.ExpectTableColumnsToMatchSet(column_set=list(REQUIRED), exact_match=False),
        ),
        Rule("rows", "There is at least one row.", "stop", gxe.ExpectTableRowCountToBeBetween(min_value=1)),
        Rule("row_id_present", "Every row has an id.", "stop", gxe.ExpectColumnValuesToNotBeNull(column="row_id")),
        Rule("row_id_unique", "No two rows share an id.", "stop", gxe.ExpectColumnValuesToBeUnique(column="row_id")),
    ]


def train_rules(labels: Sequence[str], others: Mapping[str, pd.DataFrame], config: ValidationConfig) -> list[Rule]:
    """Row by row: bad rows are set aside, a label that nobody vouches for stops everything."""
    rules = [
        *_complete_rules("quarantine"),
        *_label_rules(labels),
        Rule(
            "duplicate_text",
            "No row repeats the text and label of an earlier row (whatever its case, spacing and Unicode form).",
            "quarantine",
            own.ExpectFirstOfPair(column_A="key", column_B="label"),
        ),
        Rule(
            "conflicting_labels",
            "Rows with the same text have the same label.",
            "quarantine",
            own.ExpectOneBForEachA(column_A="key", column_B="label"),
        ),
        Rule(
            "length",
            f"No text has more than {config.max_words} words: the model would not see its end.",
            "warn",
            own.ExpectAtMostWords(column="text", max_words=config.max_words),
        ),
        Rule(
            "invisible_characters",
            "No text holds characters that a reader does not see.",
            "quarantine",
            own.ExpectNoInvisibleCharacters(column="text", allowed=config.allowed_characters),
            partial(find_invisible, allowed=config.allowed_characters),
        ),
        Rule(
            "homoglyphs",
            "No word mixes Latin letters with letters of another script that look like them.",
            "quarantine",
            own.ExpectNoMixedScriptWords(column="text"),
            find_mixed_script,
        ),
    ]
    for name, frame in others.items():
        keys = frame["key"].dropna().unique().tolist()
        expectation = gxe.ExpectColumnValuesToNotBeInSet(column="key", value_set=keys)
        rules.append(Rule(f"overlap_{name}", f"No text occurs in the {name} rows too.", "quarantine", expectation))
    return rules


def clean_rules(labels: Sequence[str]) -> list[Rule]:
    """For the rows that measure or anchor the model: every one of them must be usable."""
    return [*_complete_rules("stop"), *_label_rules(labels)]


def balance_rules(labels: Sequence[str], config: ValidationConfig) -> list[Rule]:
    """The accepted training rows as a whole."""
    return [
        Rule(
            "label_classes",
            "The accepted rows have at least two labels.",
            "stop",
            gxe.ExpectColumnUniqueValueCountToBeBetween(column="label", min_value=2),
        ),
        Rule(
            "label_coverage",
            f"The accepted rows have every label of the trusted set: {', '.join(labels)}.",
            "warn",
            gxe.ExpectColumnDistinctValuesToContainSet(column="label", value_set=list(labels)),
        ),
        Rule(
            "label_balance",
            f"Each label makes up at least {config.min_label_share:.0%} of the accepted rows.",
            "warn",
            own.ExpectCommonValues(column="label", min_share=config.min_label_share),
        ),
    ]


def _complete_rules(failure: Outcome) -> list[Rule]:
    return [
        Rule("text_present", "Every row has a text.", failure, gxe.ExpectColumnValuesToNotBeNull(column="text")),
        Rule("label_present", "Every row has a label.", failure, gxe.ExpectColumnValuesToNotBeNull(column="label")),
        Rule(
            "text_not_blank",
            "No text is empty or white space only.",
            failure,
            gxe.ExpectColumnValuesToNotBeInSet(column="key", value_set=[""]),
        ),
    ]


def _label_rules(labels: Sequence[str]) -> list[Rule]:
    if not labels:  # the trusted set has none: its own label_present stops the run
        return []
    expectation = gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(labels))
    return [Rule("label_known", f"Every label is one of the trusted set: {', '.join(labels)}.", "stop", expectation)]
