"""From a config to the four sets of rows: train (untrusted), dev and test (clean), trusted."""

from dataclasses import dataclass
from datetime import datetime, timezone

from musclelora.attacks.base import poison
from musclelora.attacks.registry import attack_by_name
from musclelora.data.config import AuditData, DataConfig
from musclelora.data.readers import read_table
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.data.splits import split
from musclelora.data.trusted import check_trusted
from musclelora.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Delivery:
    """The rows of a run; `dev` has no rows where none were named. Poisoned rows are marked in a demonstration only."""

    train: TextDataset
    dev: TextDataset
    test: TextDataset
    trusted: TrustedSet

    @property
    def sha256(self) -> dict[str, str]:
        """SHA-256 of the rows that a model's evidence names."""
        return {"train": self.train.sha256, "test": self.test.sha256, "trusted": self.trusted.sha256}


def ingest(config: DataConfig, seed: int, target: str) -> Delivery:
    """Read, split where the config says so, check the trusted set, and poison where it is a demonstration.

    `target` is the label that attacks and drills aim at. Raises `DataError` for rows that cannot be read, too few
    rows, a trusted set that cannot be relied on, or a target that is none of its labels.
    """
    delivery = _split(config, seed) if config.split else _files(config)
    today = datetime.now(timezone.utc).date()
    check_trusted(delivery.trusted, {"dev": delivery.dev, "test": delivery.test}, today, config.labels)
    for aim in (target, *([config.demonstration.target] if config.demonstration else [])):
        if aim not in delivery.trusted.label_names:
            raise DataError(
                f"The target label {aim!r} of the attacks is none of the labels {list(delivery.trusted.label_names)}: "
                "correct evaluation.target or data.demonstration.target."
            )
    if config.demonstration is None:
        return delivery
    shown = config.demonstration
    poisoned = poison(delivery.train, attack_by_name(shown.attack), rate=shown.rate, target=shown.target, seed=seed)
    return Delivery(poisoned, delivery.dev, delivery.test, delivery.trusted)


def _split(config: DataConfig, seed: int) -> Delivery:
    if config.dataset is None or config.split is None:
        raise ConfigError("data.dataset and data.split belong together.")
    table = read_table(config.dataset, config.columns, only_source=config.only_source)
    parts = split(table, config.split, seed)
    return Delivery(parts.train, parts.dev, parts.test, parts.trusted)


def _files(config: DataConfig) -> Delivery:
    if config.train is None or config.test is None or config.trusted is None:
        raise ConfigError("data.train, data.test and data.trusted belong together.")

    def read(name: str) -> TextDataset:
        return read_table(name, config.columns, only_source=config.only_source)

    train, test = read(config.train), read(config.test)
    dev = read(config.dev) if config.dev else test.where([False] * len(test))
    vouched = config.trusted
    trusted = TrustedSet(read(vouched.path), vouched.owner, vouched.expires, vouched.checked)
    return Delivery(train, dev, test, trusted)


@dataclass(frozen=True, eq=False)
class AuditRows:
    """The rows of an audit; `train` and `trusted` where there are training rows to scan."""

    test: TextDataset
    triggered: dict[str, TextDataset]
    train: TextDataset | None
    trusted: TrustedSet | None


def ingest_audit(config: AuditData, seed: int, target: str) -> AuditRows:
    """The rows of an audit; raises `DataError` for what cannot be read, or a trusted set not to be relied on."""
    triggered = {attack: read_table(name, config.columns) for attack, name in config.triggered.items()}
    if config.dataset is not None or config.train is not None:
        delivery = ingest(config, seed, target)
        return AuditRows(delivery.test, triggered, delivery.train, delivery.trusted)
    test = read_table(str(config.test), config.columns, only_source=config.only_source)
    return AuditRows(test, triggered, None, None)
