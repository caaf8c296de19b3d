"""The `data` section: the two forms, and what every wrong combination says."""

import pytest
from pydantic import ValidationError

from musclelora.data.config import Columns, DataConfig, Demonstration, Split

SIZES = {"train": 10, "dev": 2, "test": 3, "trusted": 2}
FILES = {"train": "a.csv", "test": "b.csv", "trusted": {"path": "c.csv", "owner": "Ada", "expires": "2030-01-31"}}


def test_one_dataset_with_a_split():
    config = DataConfig.model_validate({"dataset": "default", "split": SIZES})
    assert config.split == Split(**SIZES)
    assert config.columns == Columns()


def test_files_of_their_own_and_labels_as_yaml_gives_them():
    config = DataConfig.model_validate(
        {**FILES, "labels": [0, 1.0], "demonstration": {"attack": "badnets", "target": 1}}
    )
    assert config.labels == ["0", "1"]
    assert config.demonstration == Demonstration(attack="badnets", target="1")
    assert config.trusted is not None
    assert str(config.trusted.expires) == "2030-01-31"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "no data is named"),
        ({"dataset": "default"}, "needs a `split`"),
        ({"split": SIZES}, "needs a `dataset`"),
        ({"dataset": "default", "split": SIZES, "test": "b.csv"}, "dataset and split cannot stand beside test"),
        ({"train": "a.csv"}, "test, trusted missing beside train"),
        ({"train": "a.csv", "test": "b.csv"}, "trusted missing"),
        ({"dev": "a.csv"}, "train, test, trusted missing"),
        ({**FILES, "lables": ["0", "1"]}, "Extra inputs"),
        ({**FILES, "labels": ["0"]}, "two or more"),
        ({**FILES, "labels": ["1", 1.0]}, "two or more"),
        ({**FILES, "labels": ["0", "1"], "demonstration": {"attack": "x", "target": 2}}, "target '2' is not in labels"),
        ({**FILES, "demonstration": {"attack": "x", "target": 1, "rate": 0}}, "greater than 0"),
        ({**FILES, "demonstration": {"attack": "x", "target": 1, "rate": 1}}, "less than 1"),
        ({**FILES, "columns": {"text": "a", "label": "a"}}, "the same column"),
        ({**FILES, "trusted": {"path": "c.csv"}}, "owner"),
        ({"dataset": "default", "split": {**SIZES, "trusted": 0}}, "greater than or equal to 1"),
    ],
)
def test_wrong_combinations_say_what_is_wrong(section, message):
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(section)
