"""CACC and ASR as `evaluate.Metric`s, so that they combine with any other; computed in memory, without a hub."""

from typing import Any

import datasets
import evaluate
import numpy as np

from musclelora.errors import DataError
from musclelora.evaluation.intervals import rate

FEATURES = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})


class CACC(evaluate.Metric):
    """Clean accuracy: the share of clean test rows classified as their label."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__, citation="", inputs_description="class numbers", features=FEATURES
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, Any]:
        if len(references) == 0:
            raise DataError("CACC of no rows is undefined: the test set is empty.")
        correct = int(np.sum(np.asarray(predictions) == np.asarray(references)))
        return {"cacc": rate(correct, len(references)).model_dump()}


class ASR(evaluate.Metric):
    """Attack success rate: the share of triggered test rows of other classes classified as the target.

    `references` are the true classes; a row of the target class is refused, since calling it the target is no attack.
    """

    def __init__(self, target: int, **kwargs: Any) -> None:
        super().__init__(keep_in_memory=True, **kwargs)
        self.target = target

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__, citation="", inputs_description="class numbers", features=FEATURES
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, Any]:
        if len(references) == 0:
            raise DataError("ASR of no rows is undefined: no test row carries the trigger.")
        if self.target in references:
            raise DataError("ASR counts rows of non-target classes only, and some of these are of the target class.")
        return {"asr": rate(int(np.sum(np.asarray(predictions) == self.target)), len(references)).model_dump()}
