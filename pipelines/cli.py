"""The `musclelora` command: thin over the pipelines. Errors are one paragraph; exit codes are in the README."""

import errno
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from pipelines.launch import Finished

# Before zenml, great_expectations or mlflow are imported: they decide at import whether to report usage.
QUIET = {
    "ZENML_ANALYTICS_OPT_IN": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
# Libraries that announce what they do on every run. A filter, since one of them sets its own level when imported.
TALKATIVE = ("great_expectations.data_context.types.base", "mlflow.store.db.utils")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks and the log of ZenML.")
@click.version_option(package_name="musclelora-pipelines")
def main(debug: bool) -> None:
    """Fine-tune text classifiers on data nobody vouches for, with evidence that they carry no backdoor."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not debug:
        os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "CRITICAL")
        os.environ.setdefault("ZENML_ENABLE_RICH_TRACEBACK", "false")
        for name in TALKATIVE:
            logging.getLogger(name).addFilter(_warnings_only)
    os.environ["MUSCLELORA_DEBUG"] = "1" if debug else ""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    progress = logging.getLogger("musclelora.progress")
    progress.handlers, progress.propagate = [handler], False
    progress.setLevel(logging.INFO)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in gate.max_asr=0.2.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for summary.json and pages.  [runs/<time>-NAME]"
)
@click.option("--dry-run", is_flag=True, help="Check config, data, model, stack and MLflow; start nothing.")
def run(config: Path, overrides: tuple[str, ...], output: Path | None, dry_run: bool) -> None:
    """Ingest, validate, train, evaluate, decide and register, as CONFIG (a YAML file) says."""
    try:
        sys.exit(_run(config, overrides, output, dry_run))
    except (Exception, KeyboardInterrupt) as error:  # every error becomes one paragraph here, and only here
        _fail(error)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in gate.max_asr=0.2.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for summary.json and pages.  [runs/<time>-NAME]"
)
def retrain(config: Path, overrides: tuple[str, ...], output: Path | None) -> None:
    """As `run`, where rows changed since the champion was made, or its evidence is old; else end at once: skipped."""
    try:
        sys.exit(_retrain(config, overrides, output))
    except (Exception, KeyboardInterrupt) as error:
        _alert(error)
        _fail(error)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--plan", "action", flag_value="plan", default=True, help="Say what --apply would do; change nothing.")
@click.option("--apply", "action", flag_value="apply", help="Make the schedule of that name what CONFIG says.")
@click.option("--list", "action", flag_value="list", help="Show the schedules that there are.")
@click.option("--remove", "action", flag_value="remove", help="Remove the schedule of that name.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in schedule.cron=...")
@click.option("--output", type=click.Path(path_type=Path), default=Path("schedules"), help="Folder for files to paste.")
def schedule(config: Path, action: str, overrides: tuple[str, ...], output: Path) -> None:
    """Retrain on a schedule, on the active orchestrator; one that has none gets files for cron and systemd."""
    _answer(lambda: _schedule(config, action, overrides, output))


_tracking = click.option("--tracking-uri", metavar="URI", help="MLflow.  [MLFLOW_TRACKING_URI, else ./mlflow.db]")


@main.command()
@click.argument("model")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in gate.max_asr=0.2.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for summary.json and pages.  [runs/<time>-NAME]"
)
@click.option("--dry-run", is_flag=True, help="Check config, data and models; attack nothing.")
@_tracking
def audit(
    model: str,
    config: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    dry_run: bool,
    tracking_uri: str | None,
) -> None:
    """Attack MODEL (a folder, a hub name, or models:/NAME@ALIAS) as CONFIG says, and judge it: safe or not."""
    try:
        sys.exit(_audit(model, config, overrides, output, dry_run, tracking_uri))
    except KeyboardInterrupt:
        from musclelora.errors import MuscleLoRAError

        _fail(MuscleLoRAError("Interrupted. An audit keeps nothing half done: run the same command again."))
    except Exception as error:
        _fail(error)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in seeds=[1,2,3].")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for results.json, tables and page.  [runs/<time>-NAME]"
)
@click.option("--dry-run", is_flag=True, help="Check config, weights, defences, stack and MLflow; start nothing.")
def compare(config: Path, overrides: tuple[str, ...], output: Path | None, dry_run: bool) -> None:
    """Train every method under every attack, as CONFIG says, and rank them. Finished cells are not trained again."""
    try:
        sys.exit(_compare(config, overrides, output, dry_run))
    except (Exception, KeyboardInterrupt) as error:
        _fail(error)


@main.command()
@click.argument("data")
@click.option("--trusted", required=True, help="A small file of the same columns that somebody vouches for.")
@click.option("--owner", default="not named", show_default=True, help="Who vouches for the trusted rows.")
@click.option("--text", default="text", show_default=True, help="Column of the texts.")
@click.option("--label", default="label", show_default=True, help="Column of the labels.")
@click.option("--source", help="Column that says where a row comes from.")
@click.option("--row-id", help="Column of unique ids.  [rows are numbered]")
@click.option("--encoder", help="Encoder of the trusted model: a package, a folder or a hub name.  [embedded]")
@click.option(
    "--steps",
    default=0,
    show_default=True,
    help="Contrastive steps on the trusted rows; 80 take minutes.",
)
@click.option("--seed", default=42, show_default=True, help="Decides every random draw.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for its files.  [runs/<time>-scan]")
def scan(data: str, output: Path | None, **options: Any) -> None:
    """Look for poison in DATA: a CSV, TSV, JSONL or Parquet file, a folder of them, or a `datasets` name.

    Exit code 0: nothing found; 3: suspects found; 1 or 2: an error.
    """
    try:
        sys.exit(_scan(data, output, **options))
    except (Exception, KeyboardInterrupt) as error:
        _fail(error)


@main.command()
@click.argument("name")
@click.argument("version")
@_tracking
def promote(name: str, version: str, tracking_uri: str | None) -> None:
    """Make VERSION of the registered model NAME its champion, if its decision is accepted and its files are whole."""
    from pipelines import govern

    _answer(lambda: govern.promote(name, version, tracking_uri))


@main.command()
@click.argument("name")
@_tracking
def rollback(name: str, tracking_uri: str | None) -> None:
    """Make the previous champion of NAME its champion again, once its files were verified anew."""
    from pipelines import govern

    _answer(lambda: govern.rollback(name, tracking_uri))


@main.command()
@click.argument("target", metavar="NAME|FOLDER")
@click.argument("version", required=False)
@click.option("--manifest-sha256", metavar="SHA256", help="For a FOLDER: the tag manifest_sha256 of its version.")
@click.option("--public-key", metavar="PEM", type=click.Path(path_type=Path), help="Check the signature too.")
@_tracking
def verify(
    target: str,
    version: str | None,
    manifest_sha256: str | None,
    public_key: Path | None,
    tracking_uri: str | None,
) -> None:
    """Check files, evidence and decision of a model FOLDER (without a network), or of the registered model NAME.

    Of NAME also its promotion ledger; without VERSION every version that has an alias.
    """
    from pipelines import govern

    if version is None and Path(target).is_dir():
        _answer(lambda: govern.verify_folder(Path(target), manifest_sha256, public_key))
    else:
        _answer(lambda: govern.verify_registered(target, version, tracking_uri, public_key))


@main.command("sign-waiver")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="An Ed25519 private key, PEM.")
def sign_waiver(file: Path, key: Path) -> None:
    """Sign the waiver in FILE (YAML): its person accepts that a rule of the gate does not hold."""
    from musclelora.config import sign_waiver

    _answer(lambda: f"{file} is signed by {sign_waiver(file, key)}.")


def _answer(work: Callable[[], str]) -> None:
    from musclelora.errors import MuscleLoRAError

    try:
        click.echo(work())
    except KeyboardInterrupt:
        _fail(MuscleLoRAError("Interrupted. `musclelora verify NAME` says how far it came; run the same again."))
    except Exception as error:
        _fail(error)


def _run(path: Path, overrides: tuple[str, ...], output: Path | None, dry_run: bool) -> int:
    from musclelora.config import load_config

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


def _retrain(path: Path, overrides: tuple[str, ...], output: Path | None) -> int:
    from musclelora.config import load_config
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


def _schedule(path: Path, action: str, overrides: tuple[str, ...], output: Path) -> str:
    from musclelora.config import load_config

    config = load_config(path, overrides)
    from pipelines.schedule import retrain_command, schedule

    return schedule(config, cast(Any, action), retrain_command(path, overrides), output.resolve())


def _alert(error: BaseException) -> None:
    """Tell people that a retraining ended without a decision. What failed inside a run was told there, by its hook."""
    from pipelines.errors import StoppedError

    if not isinstance(error, StoppedError):
        from steps.alerting import raise_alert

        raise_alert(f"The retraining ended before it began, and the champion is where it was. {error}")


def _audit(
    model: str,
    path: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    dry_run: bool,
    tracking_uri: str | None,
) -> int:
    from musclelora.config import load_audit_config

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


def _compare(path: Path, overrides: tuple[str, ...], output: Path | None, dry_run: bool) -> int:
    from musclelora.config import load_compare_config

    config = load_compare_config(path, overrides)
    from transformers.utils.logging import disable_progress_bar

    from pipelines.compare import prepare_comparison, run_comparison
    from pipelines.table import aligned

    disable_progress_bar()
    prepared = prepare_comparison(config)
    if dry_run:
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


def _scan(
    data: str,
    output: Path | None,
    *,
    trusted: str,
    owner: str,
    text: str,
    label: str,
    source: str | None,
    row_id: str | None,
    encoder: str | None,
    steps: int,
    seed: int,
) -> int:
    from transformers.utils.logging import disable_progress_bar

    from pipelines.scan import EXIT_CODES, run_scan, scan_table, settings

    disable_progress_bar()
    columns, config = settings(text=text, label=label, source=source, row_id=row_id, encoder=encoder, steps=steps)
    written = run_scan(
        data, trusted, columns=columns, owner=owner, config=config, seed=seed, output=output or _folder("scan")
    )
    click.echo(scan_table(written.scanned))
    click.echo(f"summary.json, quarantined.csv and the page are in {written.folder} (start with scan.html)")
    return EXIT_CODES[written.scanned.status]


def _folder(name: str) -> Path:
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"


def _fail(error: BaseException) -> None:
    """Say what happened in one paragraph, and exit with the error's code."""
    from pipelines.errors import StoppedError

    if os.environ.get("MUSCLELORA_DEBUG"):
        traceback.print_exc()
    registered = "Nothing was registered."
    if isinstance(error, StoppedError):
        if error.registering:
            registered = "It was registering: a version that is not tagged status=ready in MLflow does not count."
        error = error.__cause__ or error
    click.echo(f"Error: {_paragraph(error, registered)}", err=True)
    sys.exit(getattr(error, "exit_code", 1))


def _paragraph(error: BaseException, registered: str) -> str:
    """What happened, for a person; full disks are named, since every library words them differently."""
    from musclelora.errors import MuscleLoRAError
    from pipelines.errors import OutputError

    again = f"{registered} Run the same command again: finished steps come from the cache."
    if isinstance(error, KeyboardInterrupt):
        return f"Interrupted. {again}"
    if _disk_is_full(error) and not isinstance(error, OutputError):
        return f"The disk is full. Nothing that was there before was lost. Free some space. {again}"
    if isinstance(error, MuscleLoRAError):
        return str(error)
    first = " ".join(str(error).split())[:500]
    return f"Unexpected {type(error).__name__}: {first}. {registered} `musclelora --debug ...` shows where."


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        text = str(error)
        if getattr(error, "errno", None) == errno.ENOSPC or "disk is full" in text or "No space left" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def _warnings_only(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


if __name__ == "__main__":
    main()
