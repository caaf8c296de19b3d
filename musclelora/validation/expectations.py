"""Expectations on text that Great Expectations has no built-in for. All skip rows where a value is missing."""

from typing import Any

import pandas as pd
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnMapExpectation, ColumnPairMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    ColumnPairMapMetricProvider,
)
from great_expectations.expectations.metrics.map_metric_provider.column_condition_partial import (
    column_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.column_pair_condition_partial import (
    column_pair_condition_partial,
)

from musclelora.validation.characters import Spots, find_invisible, find_mixed_script


class _NoInvisible(ColumnMapMetricProvider):
    condition_metric_name = "column_values.musclelora.no_invisible_characters"
    condition_value_keys = ("allowed",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, allowed: str, **_: Any) -> pd.Series:  # noqa: N805
        return _nothing_found(find_invisible(list(column), allowed), column)


class ExpectNoInvisibleCharacters(ColumnMapExpectation):
    """No text holds a character that a reader does not see (`characters.find_invisible`)."""

    map_metric = "column_values.musclelora.no_invisible_characters"
    success_keys = ("allowed", "mostly")
    allowed: str = ""


class _NoMixedScript(ColumnMapMetricProvider):
    condition_metric_name = "column_values.musclelora.no_mixed_script_words"
    condition_value_keys = ()

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, **_: Any) -> pd.Series:  # noqa: N805
        return _nothing_found(find_mixed_script(list(column)), column)


class ExpectNoMixedScriptWords(ColumnMapExpectation):
    """No word mixes Latin letters with look-alikes of another script (`characters.find_mixed_script`)."""

    map_metric = "column_values.musclelora.no_mixed_script_words"
    success_keys = ("mostly",)


class _AtMostWords(ColumnMapMetricProvider):
    condition_metric_name = "column_values.musclelora.at_most_words"
    condition_value_keys = ("max_words",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, max_words: int, **_: Any) -> pd.Series:  # noqa: N805
        return column.map(lambda text: len(text.split()) <= max_words).astype(bool)


class ExpectAtMostWords(ColumnMapExpectation):
    """No text has more than `max_words` words (runs without white space)."""

    map_metric = "column_values.musclelora.at_most_words"
    success_keys = ("max_words", "mostly")
    max_words: int


class _CommonValue(ColumnMapMetricProvider):
    condition_metric_name = "column_values.musclelora.common_value"
    condition_value_keys = ("min_share",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, min_share: float, **_: Any) -> pd.Series:  # noqa: N805
        return column.map(column.value_counts(normalize=True)).astype(float) >= min_share


class ExpectCommonValues(ColumnMapExpectation):
    """Each value of the column makes up at least the fraction `min_share` of it."""

    map_metric = "column_values.musclelora.common_value"
    success_keys = ("min_share", "mostly")
    min_share: float


class _FirstOfPair(ColumnPairMapMetricProvider):
    condition_metric_name = "column_pair_values.musclelora.first_of_its_kind"
    condition_domain_keys = ("column_A", "column_B")
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_A: pd.Series, column_B: pd.Series, **_: Any) -> pd.Series:  # noqa: N803, N805
        repeats = pd.DataFrame({"A": column_A, "B": column_B}).duplicated(keep="first")
        return ~repeats | column_A.isna() | column_B.isna()


class ExpectFirstOfPair(ColumnPairMapExpectation):
    """No row repeats the pair of values of an earlier row: the first one passes."""

    map_metric = "column_pair_values.musclelora.first_of_its_kind"


class _OneBForEachA(ColumnPairMapMetricProvider):
    condition_metric_name = "column_pair_values.musclelora.one_b_for_each_a"
    condition_domain_keys = ("column_A", "column_B")
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_A: pd.Series, column_B: pd.Series, **_: Any) -> pd.Series:  # noqa: N803, N805
        return (column_B.groupby(column_A, dropna=False).transform("nunique") <= 1) | column_A.isna()


class ExpectOneBForEachA(ColumnPairMapExpectation):
    """All rows with one value in column A have one value in column B: else every one of them fails."""

    map_metric = "column_pair_values.musclelora.one_b_for_each_a"


class _LabelRateBySource(ColumnPairMapMetricProvider):
    condition_metric_name = "column_pair_values.musclelora.label_rate_by_source_within"
    condition_domain_keys = ("column_A", "column_B")
    condition_value_keys = ("within", "min_rows")

    @column_pair_condition_partial(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # noqa: N805
        column_A: pd.Series,  # noqa: N803
        column_B: pd.Series,  # noqa: N803
        within: float,
        min_rows: int,
        **_: Any,
    ) -> pd.Series:
        table = pd.crosstab(column_A, column_B)
        of_source, others = table.sum(axis=1), table.sum() - table
        rate, rest = table.div(of_source, axis=0), others.div(of_source.sum() - of_source, axis=0)
        far = ((rate - rest) > within) & (of_source >= min_rows).to_numpy()[:, None] & rest.notna()
        bad = {cell for cell, is_far in far.stack().items() if is_far}
        pairs = zip(column_A, column_B, strict=True)
        return pd.Series([pair not in bad for pair in pairs], index=column_A.index, dtype=bool)


class ExpectLabelRateBySourceWithin(ColumnPairMapExpectation):
    """No source (column A) has a label (column B) by more than the fraction `within` oftener than the other sources.

    The rows of the source with that label fail. Sources with fewer than `min_rows` rows are not judged.
    """

    map_metric = "column_pair_values.musclelora.label_rate_by_source_within"
    success_keys = ("within", "min_rows", "mostly")
    within: float
    min_rows: int = 30


class _NoResidualTrigger(ColumnMapMetricProvider):
    condition_metric_name = "column_values.musclelora.no_residual_trigger_features"
    condition_value_keys = ()

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, **_: Any) -> pd.Series:  # noqa: N805
        return pd.Series(False, index=column.index)


class ExpectNoResidualTriggerFeatures(ColumnMapExpectation):
    """No row has a feature that the token scan suspects: the column names it, and is null where there is none."""

    map_metric = "column_values.musclelora.no_residual_trigger_features"
    success_keys = ("mostly",)


def _nothing_found(spots: Spots, column: pd.Series) -> pd.Series:
    return pd.Series([spot is None for spot in spots], index=column.index, dtype=bool)
