"""The steps of a comparison: the rows of a dataset, the rows of an attack, one cell of the grid."""

from typing import Annotated

from zenml import step

from musclelora.comparison import deliver as library
from musclelora.comparison.measure import measure
from musclelora.comparison.record import Cell, CellResult
from musclelora.data.config import CompareData
from musclelora.data.records import TextDataset, TrustedSet
from steps.cache import LIBRARY_CODE
from steps.progress import COUNTDOWN, announce, announce_epoch
from steps.train import CHECKPOINTS


@step(enable_cache=False)
def deliver(
    data: CompareData, seed: int
) -> tuple[
    Annotated[TextDataset, "train"],
    Annotated[TextDataset, "dev"],
    Annotated[TextDataset, "test"],
    Annotated[TrustedSet, "trusted"],
]:
    delivery = library.deliver(data, seed)
    return delivery.train, delivery.dev, delivery.test, delivery.trusted


@step(enable_cache=False)
def attacked(
    train: TextDataset, test: TextDataset, data: CompareData, attack: str, seed: int
) -> tuple[Annotated[TextDataset, "poisoned"], Annotated[TextDataset, "triggered"]]:
    poisoned, triggered = library.attacked(data, train, test, attack, seed)
    return poisoned, triggered


@step(cache_policy=LIBRARY_CODE)
def cell(
    rows: TextDataset,
    trusted: TrustedSet,
    dev: TextDataset,
    test: TextDataset,
    triggered: list[TextDataset],
    attacks: list[str],
    target: str,
    of: Cell,
) -> Annotated[CellResult, "cell_result"]:
    announce(f"{COUNTDOWN.place(of.id)}{of.id}, {len(rows):,} rows")
    by_attack = dict(zip(attacks, triggered, strict=True))
    try:
        result = measure(
            of, rows, trusted, dev, test, by_attack, target, on_epoch=announce_epoch, checkpoints=CHECKPOINTS
        )
    except Exception as error:  # said at once, not only in the table at the end
        announce(f"  NO RESULT: {' '.join(str(error).split())}")
        raise
    COUNTDOWN.measured(of.id, sum(result.seconds.values()))
    found = ", ".join(f"{attack} {measured.asr.value:.1%}" for attack, measured in result.attacks.items())
    announce(f"  CACC {result.cacc.value:.1%}; ASR {found}")
    return result
