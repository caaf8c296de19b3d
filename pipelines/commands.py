"""What each command of `musclelora` does: its answer goes to standard output, its result is the exit code.

Libraries that take seconds to import are imported where they are needed, so that a typing error is answered at once.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from pipelines.launch import Finished

SHEET_MAX_LENGTH = 128  # tokens per row that the encoder reads


def run(path: Path, overrides: tuple[str, ...], output: Path | None, dry_run: bool) -> int:
    from musclelora.config_file import load_config

    config = load_config(path, overrides)  # before the slow imports: a typing error answers at once
    from transformers.utils.logging import disable_progress_bar

    from musclelora.ingest import ingest
    from pipelines.launch import launch, prepare
    from pipelines.memory import memory_table

    disable_progress_bar()
    prepared = prepare(config)
    if dry_run:
        delivery = ingest(config.data, config.seed, prepared.triggers.target)
        names = ", ".join(training.part for training in prepared.trainings)
        click.echo(f"The configuration is sound: {len(delivery.train)} training, {len(delivery.dev)} dev, ", nl=False)
        click.echo(f"{len(delivery.test)} test and {len(delivery.trusted)} trusted rows; {prepared.backbone.name};")
        click.echo(f"models to train: {names}. Nothing was started.")
        click.echo(memory_table(prepared, delivery))
        return 0
    return _show(launch(prepared, output or _folder(config.name)))


def _show(finished: "Finished") -> int:
    """What a run found, on standard output; returns the exit code of its decision."""
    from pipelines.table import exit_code, quarantine_line, results_table

    click.echo(results_table(finished.report, finished.summary, finished.validation))
    click.echo(quarantine_line(finished.validation))
    if finished.cached_steps:
        click.echo(f"Served from the cache: {', '.join(finished.cached_steps)}.")
    for reason in finished.summary.gate.reasons:
        click.echo(f"- {reason}")
    click.echo(
        f"summary.json and the pages are in {finished.folder} (start with {finished.folder / 'robustness.html'})"
    )
    return exit_code(finished.summary.status)


def retrain(path: Path, overrides: tuple[str, ...], output: Path | None) -> int:
    from musclelora.config_file import load_config
    from pipelines.first_look import first_look, write_skipped

    started = time.monotonic()
    config = load_config(path, overrides)
    folder = output or _folder(config.name)
    occasion = first_look(config)
    if not occasion.due:
        write_skipped(config, occasion, started, folder)
        click.echo(f"skipped: {occasion.reason} Nothing was started. summary.json is in {folder}")
        return 0
    click.echo(occasion.reason)
    from transformers.utils.logging import disable_progress_bar

    from pipelines.launch import prepare
    from pipelines.retrain import retrain

    disable_progress_bar()
    retrained = retrain(prepare(config), folder)
    code = _show(retrained.finished)
    if retrained.alert:
        click.echo(f"ALERT: {retrained.alert}")
    return code


def schedule(path: Path, action: str, overrides: tuple[str, ...], output: Path) -> str:
    from musclelora.config_file import load_config

    config = load_config(path, overrides)
    from pipelines.schedule import retrain_command, schedule

    return schedule(config, cast(Any, action), retrain_command(path, overrides), output.resolve())


def audit(
    model: str,
    path: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    dry_run: bool,
    tracking_uri: str | None,
) -> int:
    from musclelora.config_file import load_audit_config

    config = load_audit_config(path, overrides)
    from transformers.utils.logging import disable_progress_bar

    from pipelines.audit import prepare_audit, run_audit
    from pipelines.table import audit_table, exit_code

    disable_progress_bar()
    prepared = prepare_audit(model, config, tracking_uri)
    if dry_run:
        scanned = f"{len(prepared.rows.train)} training rows to scan" if prepared.rows.train else "no training rows"
        click.echo(
            f"The configuration is sound: {len(prepared.rows.test)} test rows, {scanned}; {prepared.audited.name}"
        )
        click.echo(f"answers {', '.join(prepared.audited.label_names)}. Nothing was attacked.")
        return 0
    audited = run_audit(prepared, output or _folder(config.name))
    click.echo(audit_table(audited.report, audited.summary))
    for reason in audited.summary.gate.reasons:
        click.echo(f"- {reason}")
    click.echo(f"summary.json and the page are in {audited.folder} (start with {audited.folder / 'robustness.html'})")
    return exit_code(audited.summary.status)


def compare(path: Path, overrides: tuple[str, ...], output: Path | None, dry_run: bool) -> int:
    from musclelora.config_file import load_compare_config

    config = load_compare_config(path, overrides)
    from transformers.utils.logging import disable_progress_bar

    from musclelora.comparison.deliver import deliver
    from pipelines.compare import prepare_comparison, run_comparison
    from pipelines.table import aligned

    disable_progress_bar()
    prepared = prepare_comparison(config)
    if dry_run:
        for name, data in config.datasets.items():
            rows = deliver(data, config.seeds[0])
            counts = f"{len(rows.train):,} training, {len(rows.dev):,} dev, {len(rows.test):,} test"
            click.echo(f"{name}: {counts} and {len(rows.trusted):,} trusted rows.")
        click.echo(f"The configuration is sound: {len(prepared.cells)} cells to train. Nothing was started.")
        return 0
    compared = run_comparison(prepared, output or _folder(config.name))
    for group in compared.comparison.groups:
        click.echo(f"{group.dataset}, {group.backbone}\n{aligned(group.cells)}")
    for failure in compared.comparison.failures:
        click.echo(f"No result: {failure.cell.id}: {failure.reason}")
    click.echo(f"{len(compared.cached)} of {len(prepared.cells)} cells came from the cache.")
    click.echo(f"results.json, tables and the page are in {compared.folder} (start with comparison.html there)")
    return 1 if compared.comparison.failures else 0


def scan(data: str, output: Path | None, *, trusted: str, owner: str, seed: int, **choices: Any) -> int:
    """`choices` are those of `pipelines.scan.settings`."""
    from transformers.utils.logging import disable_progress_bar

    from pipelines.scan import EXIT_CODES, run_scan, scan_table, settings

    disable_progress_bar()
    columns, config = settings(**choices)
    written = run_scan(
        data, trusted, columns=columns, owner=owner, config=config, seed=seed, output=output or _folder("scan")
    )
    click.echo(scan_table(written.scanned))
    click.echo(f"summary.json, quarantined.csv and the page are in {written.folder} (start with scan.html)")
    return EXIT_CODES[written.scanned.status]


def sheet(
    data: str, output: Path, *, rows: int, text: str, label: str, row_id: str | None, encoder: str, seed: int
) -> str:
    """Write the sheet; returns what to do with it."""
    from musclelora.data.config import Columns
    from musclelora.data.readers import read_table
    from musclelora.labelling_sheet import choose_rows, write_sheet
    from musclelora.training.backbone import resolve_backbone
    from musclelora.training.contrastive import frozen_embeddings

    columns, backbone = Columns(text=text, label=label, row_id=row_id), resolve_backbone(encoder)
    table = read_table(data, columns)
    chosen = choose_rows(table, rows, lambda texts: frozen_embeddings(backbone, texts, SHEET_MAX_LENGTH), seed)
    write_sheet(chosen, output, columns)
    return (
        f"{len(chosen)} of {len(table):,} rows are in {output}. Have somebody fill in the column {label!r}, who reads "
        "the texts and does not know the labels that came with them, and delete the rows that nobody can tell. Then "
        f"it is the trusted file: data.trusted.path, or `musclelora scan {data} --trusted {output}`."
    )


def _folder(name: str) -> Path:
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
