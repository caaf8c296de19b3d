"""Read the delivery. Never cached: whether the data changed is known only after reading it."""

from typing import Annotated

from zenml import step

from musclelora import ingest as library
from musclelora.data.config import DataConfig
from musclelora.data.records import TextDataset, TrustedSet
from steps.progress import announce


@step(enable_cache=False)
def ingest(
    data: DataConfig, seed: int, target: str
) -> tuple[
    Annotated[TextDataset, "train"],
    Annotated[TextDataset, "dev"],
    Annotated[TextDataset, "test"],
    Annotated[TrustedSet, "trusted"],
]:
    announce("ingest: reading the data")
    delivery = library.ingest(data, seed, target)
    return delivery.train, delivery.dev, delivery.test, delivery.trusted
