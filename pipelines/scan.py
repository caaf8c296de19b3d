"""From the name of a data set to what a scan of it found: a table, a page, the rows set aside, a summary."""

import csv
import time
from dataclasses import dataclass
from pathlib import Path

from materializers import pages
from materializers.wording import shorten
from musclelora.data.config import Columns
from musclelora.data.readers import read_table
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import ConfigError
from musclelora.scan import Scanned, scan, summarise_scan
from musclelora.training.backbone import resolve_backbone
from musclelora.training.recipes import Contrastive
from musclelora.validation.config import GroupScanConfig, TrustedModelConfig, ValidationConfig
from pipelines.errors import OutputError
from pipelines.table import aligned, quarantine_line
from steps.progress import announce

EXIT_CODES = {"clean": 0, "suspects": 3}
FROZEN_INVERSE_PENALTY = 10.0  # states that were not drawn apart need a head that is surer of itself
MAX_LENGTH = 128  # tokens per row that the trusted model reads
SHOWN = 20  # suspects in the terminal; all of them are on the page
HEADER = ("what the rows have in common", "label", "rows", "with it", "expected", "odds", "z", "for example")


@dataclass(frozen=True)
class Written:
    """A scan that went through, and the folder with its files."""

    scanned: Scanned
    folder: Path


def settings(
    *,
    text: str,
    label: str,
    source: str | None,
    row_id: str | None,
    encoder: str | None,
    steps: int,
    sample_rows: int | None,
    groups: bool,
) -> tuple[Columns, ValidationConfig]:
    """Raises `ConfigError` for columns that cannot be."""
    if text == label:
        raise ConfigError(f"--text and --label name the same column {text!r}: each row needs both, in two columns.")
    config = ValidationConfig(
        trusted_model=TrustedModelConfig(
            encoder=encoder,
            sample_rows=sample_rows,
            contrastive=Contrastive(steps=steps, inverse_penalty=1.0 if steps else FROZEN_INVERSE_PENALTY),
        ),
        group_scan=GroupScanConfig(enabled=groups),
    )
    return Columns(text=text, label=label, source=source, row_id=row_id), config


def run_scan(
    name: str,
    trusted: str,
    *,
    columns: Columns,
    owner: str,
    config: ValidationConfig,
    seed: int,
    output: Path,
) -> Written:
    """Read both, scan, and write `summary.json`, `scan.html` and `quarantined.csv` into `output`.

    The trusted file needs the columns of text and label only. Raises a `MuscleLoRAError` for what cannot be read or
    used; nothing is written then.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file: name a folder, new or not.")
    started = time.monotonic()
    encoder = resolve_backbone(config.trusted_model.encoder or "default")
    rows = read_table(name, columns)
    vouched = read_table(trusted, columns.model_copy(update={"source": None, "row_id": None}))
    announce(f"scan: {len(rows):,} rows, {len(vouched):,} trusted ones")
    scanned = scan(rows, TrustedSet(vouched, owner), encoder=encoder, config=config, max_length=MAX_LENGTH, seed=seed)
    summary = summarise_scan(name, scanned, rows, seed, time.monotonic() - started)
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "summary.json").write_text(summary.model_dump_json(indent=1, by_alias=True), encoding="utf-8")
        (output / "scan.html").write_text(pages.validation_page(scanned.report), encoding="utf-8")
        _write_quarantined(output / "quarantined.csv", scanned.result.quarantined, scanned.report.quarantined)
    except OSError as error:
        raise OutputError(
            f"The scan is complete ({scanned.status}), but it could not be written to {output} "
            f"({error.strerror or error}). Make room there or name another --output, and run the same command again."
        ) from error
    return Written(scanned, output)


def scan_table(scanned: Scanned) -> str:
    """What stands out, in a table that can be judged in a minute, and what was set aside."""
    report = scanned.report
    model = report.trusted_model
    lines = []
    if model is not None:
        lines.append(
            f"Trusted model: right in {model.accuracy:.1%} of {model.n} rows ({model.measured_on}), surely in "
            f"{model.lower95:.1%}; guessing in {model.chance:.1%}."
        )
    if report.suspects:
        rows = [
            (
                shorten(suspect.says, 48),
                shorten(suspect.label, 16),
                f"{suspect.rows:,}",
                f"{suspect.purity:.1%}",
                f"{suspect.expected:.0%}",
                f"x{suspect.effect:.0f}",
                f"{suspect.z:.1f}",
                shorten(_around(suspect.text, suspect.examples[0]), 60) if suspect.examples else "",
            )
            for suspect in report.suspects[:SHOWN]
        ]
        lines += ["", aligned([HEADER, *rows])]
        if len(report.suspects) > SHOWN:
            lines.append(f"... and {len(report.suspects) - SHOWN:,} more on the page.")
        lines += ["", '"with it": share of the rows with this that have the label; expected by the trusted model.']
    else:
        lines.append("Nothing in the texts goes with one label more surely than the trusted rows explain.")
    for group in report.suspect_groups:
        lines.append(
            f"{group.rows:,} rows with label {shorten(group.label, 16)}: of all rows with as much of what they share "
            f"{group.purity:.1%} have it (expected {group.expected:.0%}). They share "
            f"{shorten(', '.join(group.shared), 120)}. For example: {shorten(group.examples[0], 120)}"
        )
    lines.append(quarantine_line(report).replace("training rows", "rows"))
    lines += [f"Warning: {check.detail}" for check in report.checks if check.outcome == "warn"]
    return "\n".join(lines)


def _around(feature: str, text: str) -> str:
    """`text` from a little before the feature on."""
    start = max(text.lower().find(feature.lower()) - 20, 0)
    return f"… {text[start:]}" if start else text


def _write_quarantined(path: Path, rows: TextDataset, reasons: dict[str, list[str]]) -> None:
    """The rows set aside, each with its reasons in the last column."""
    names = rows.rows.column_names
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "reasons"])
        for row in zip(*(rows.column(name) for name in names), strict=True):
            writer.writerow([*row, "; ".join(reasons[row[names.index("row_id")]])])
