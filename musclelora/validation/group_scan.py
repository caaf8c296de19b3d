"""The group scan: rows of one label that share a style, a syntax or words which go with that label beyond reason.

1. The text residual with the trusted model as offset (`text_residual`): a linear model that is left to learn whatever
   the given labels say beyond the trusted model. A backdoor is in it, and what the trusted model does not know.
2. Its representation of a row is how much each feature moved the residual. Whitened within one label, and clustered:
   rows that one trigger moved lie together. No neural model is trained.
3. A cluster's excess is the mean of its rows' residual times the trusted model's doubt of the label, above the label's
   median, less its standard error: little where the trusted model expects that label anyhow. Is it more than honest
   rows show? Labels are drawn again from a model that did not learn from the suspected rows, calibrated on the
   others; the same scan of many such draws gives the distribution of the greatest excess without a backdoor
   (parametric bootstrap; a Gumbel distribution is fitted to the maxima). Above its 1 - `false_alarm` quantile is a
   suspect, and in a label with one, so is what is above the 1 - 10 `false_alarm` quantile; never what is under
   `LEAST_EXCESS`, since labels of honest rows on one subject are not drawn one by one.
4. Growth: the residual is fitted without the group. What a row's residual loses by that is what it has of the group's
   trigger. Rows of other labels that lose as much say how many honest rows of this label would: growth stops where a
   further row is more probably honest than not. Once more so by a model that tells the group from all other rows.
5. Again on the rest, for the next trigger, and for what of the first was not found.
6. What all looks found is grown as one group: of a trigger with many forms each look knows a part.

Steps 2 to 5 in two views (`VIEWS`). In the first, words count twice, which makes the clusters purer, and an honest word
that the trusted model does not know stands out as a trigger does. But it leans to a label and does not decide it: there
a group needs an effect, as a feature of the token scan does. Of all rows with as much of its trigger, whatever their
label, the odds of the label must be `MIN_EFFECT` times those that the trusted model expects; in the second view,
`LEAST_EFFECT` times.

Of more than `sample_rows` rows a drawn sample is scanned. A further row of the label joins a group where it has as much
of the trigger as the last row that growth took: one product with the weights of what told it.

What it cannot see: poison whose trigger no such feature carries; a trigger in too few rows to be a cluster; rows that
an attacker chose among those whose text says the target anyhow.
"""

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import parallel_config
from scipy.special import logit
from threadpoolctl import threadpool_limits

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import DataError
from musclelora.progress import watched
from musclelora.seeding import generator
from musclelora.training.backbone import Backbone
from musclelora.training.recipes import Contrastive
from musclelora.validation.config import ONE_PROCESS, EngineConfig, GroupScanConfig
from musclelora.validation.engine import EngineError, running
from musclelora.validation.found_group import Found
from musclelora.validation.label_clusters import MIN_LABEL_ROWS
from musclelora.validation.label_scan import VIEWS, LabelScan
from musclelora.validation.text_residual import TextFeatures, text_features
from musclelora.validation.trusted_model import TrustedModel

GROUP_RESIDUAL = "group_residual"  # the name of the check
JOINED_AT_ONCE = 50_000  # texts whose features are made together


@dataclass(frozen=True)
class SuspectGroup:
    """Rows of one label that have something in common.

    `excess` of its densest cluster, and the `limit` that honest rows stay under. `purity`: the share with the label of
    all rows with as much of what it shares, `expected` by the trusted model. `shared`: what the rows have in common:
    words, patterns (`*` any word, `?` a rare one, `^` and `$` the ends), shape. `rows`: their numbers, the most typical
    first; `disagreeing`: those of them for which the trusted model says another label.
    """

    label: str
    excess: float
    limit: float
    purity: float
    expected: float
    shared: tuple[str, ...]
    rows: tuple[int, ...]
    disagreeing: tuple[int, ...]


@dataclass(frozen=True)
class GroupScanResult:
    """The suspect groups, the labels that have too few rows to be scanned, and how many rows a sample had; None where
    all were scanned."""

    groups: tuple[SuspectGroup, ...]
    not_scanned: tuple[str, ...]
    sample_rows: int | None = None


def scan_groups(
    texts: Sequence[str],
    label_ids: np.ndarray,
    expected: np.ndarray,
    label_names: Sequence[str],
    config: GroupScanConfig,
    seed: int,
) -> GroupScanResult:
    """Suspect groups label by label. The same arguments give the same groups.

    `label_ids`: given classes, shape [rows]. `expected`: the trusted model's calibrated probabilities, strictly between
    0 and 1, shape [rows, classes]. Raises `DataError` where no two labels have `MIN_LABEL_ROWS` rows: there is nothing
    to compare with.
    """
    sample = np.arange(len(texts))
    if len(texts) > config.sample_rows:
        sample = np.sort(generator(seed, "group scan/sample").permutation(len(texts))[: config.sample_rows])
    y, offsets = label_ids[sample], logit(expected[sample])
    counts = np.bincount(y, minlength=len(label_names))
    enough = [number for number in range(len(label_names)) if counts[number] >= MIN_LABEL_ROWS]
    if len(enough) < 2:
        raise DataError(
            f"The group scan needs two labels with {MIN_LABEL_ROWS} rows each; the {len(sample)} that it reads have "
            f"{dict(zip(label_names, counts.tolist(), strict=True))}. Switch it off "
            "(validation.group_scan.enabled), or bring more rows."
        )
    features = text_features([texts[row] for row in sample.tolist()])
    not_read = np.ones(len(texts), dtype=bool)
    not_read[sample] = False
    predicted = expected.argmax(1)
    groups: list[SuspectGroup] = []
    for number in watched(enough, counts[enough].tolist(), "group scan"):
        name = label_names[number]
        found, set_aside = list[Found](), np.zeros(len(sample), dtype=bool)
        scans = [LabelScan(features, y == number, offsets[:, number], config, seed, name, view) for view in VIEWS]
        for scan in scans:
            new = scan.groups(set_aside)
            set_aside[[row for group in new for row in group.rows]] = True
            found += new
        if found:
            found = _with_rows(found, features, np.flatnonzero(scans[0].together(set_aside) & ~set_aside))
        others = np.flatnonzero(not_read & (label_ids == number))
        joining = _joining(found, features, [texts[row] for row in others.tolist()])
        for group, joined in zip(found, joining, strict=True):
            rows = (*sample[list(group.rows)].tolist(), *others[joined].tolist())
            groups.append(
                SuspectGroup(
                    label=name,
                    excess=group.excess,
                    limit=group.limit,
                    purity=group.carriers.purity,
                    expected=group.carriers.expected,
                    shared=group.shared,
                    rows=rows,
                    disagreeing=tuple(row for row in rows if predicted[row] != number),
                )
            )
    not_scanned = tuple(name for number, name in enumerate(label_names) if number not in enough)
    return GroupScanResult(tuple(groups), not_scanned, len(sample) if not_read.any() else None)


def _with_rows(found: Sequence[Found], features: TextFeatures, rows: np.ndarray) -> list[Found]:
    """The groups with these rows of the sample as their last ones, each in that whose trigger it has most of."""
    x = features.x[rows]
    has = [group.trigger_of(x) - group.least for group in found]
    group_of = np.argmax(has, axis=0)
    return [
        replace(group, rows=(*group.rows, *rows[group_of == number].tolist())) for number, group in enumerate(found)
    ]


def _joining(found: Sequence[Found], features: TextFeatures, texts: Sequence[str]) -> list[np.ndarray]:
    """Per group the numbers of the texts that join it, those with most of its trigger first; a text joins one group."""
    of_group = np.full(len(texts), -1)
    trigger = np.zeros(len(texts))
    for start in range(0, len(texts) if found else 0, JOINED_AT_ONCE):
        part = slice(start, start + JOINED_AT_ONCE)
        x = features.of(texts[part])
        for number, group in enumerate(found):
            has = group.trigger_of(x)
            joins = (of_group[part] < 0) & (has >= group.least)
            of_group[part][joins], trigger[part][joins] = number, has[joins]
    order = np.argsort(-trigger, kind="stable")
    return [order[of_group[order] == number] for number in range(len(found))]


_last: dict[tuple[Any, ...], GroupScanResult] = {}


@dataclass(frozen=True)
class GroupScan:
    """The group scan with the trusted model as what is expected; the model is trained only when it is needed.

    The last result of this process is kept: validation scans the rows, and so does the recipe `purify` when it judges
    the groups.
    """

    backbone: Backbone
    trusted: TrustedSet
    max_length: int
    contrastive: Contrastive
    config: GroupScanConfig
    seed: int
    engine: EngineConfig = ONE_PROCESS  # of the encoder pass only
    sample_rows: int | None = None  # of the trusted model, not of the scan itself

    def __call__(self, rows: TextDataset, *, before: TextDataset | None = None) -> GroupScanResult:
        """`before`: the rows that the trusted model read last, of which these differ in few texts."""
        of_trusted = (self.backbone.location, self.backbone.sha256, self.trusted.sha256, self.max_length)
        key = (rows.sha256, *of_trusted, self.contrastive, self.config, self.seed, self.engine, self.sample_rows)
        if key not in _last:
            result = self._scan(rows, before)
            _last.clear()
            _last[key] = result
        return _last[key]

    def _scan(self, rows: TextDataset, before: TextDataset | None) -> GroupScanResult:
        options: dict[str, Any] = {"contrastive": self.contrastive, "seed": self.seed, "sample_rows": self.sample_rows}
        model = TrustedModel(self.backbone, self.trusted, self.max_length, **options)
        names = model.label_names
        with running(self.engine) as engine:
            given, expected = rows.label_ids(names), model.calibrated(rows, engine, before)
        try:
            # A process per core, which ends with this one, and one thread in each: the vectors are short, and on two
            # cores two threads of BLAS took four times as long as one (quickstart).
            with parallel_config(n_jobs=-1), threadpool_limits(1):
                return scan_groups(rows.texts, given, expected, names, self.config, self.seed)
        except BrokenProcessPool as error:
            raise EngineError(
                "A process of the group scan was killed, most probably for lack of memory. Set LOKY_MAX_CPU_COUNT=1 in "
                "the environment, so that one scans alone, and start the run again."
            ) from error
