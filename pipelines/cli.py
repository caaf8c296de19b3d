"""The `musclelora` command: thin over the pipelines. Errors are one paragraph; exit codes are in the README."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipelines import commands
from pipelines.failure import fail

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
        sys.exit(commands.run(config, overrides, output, dry_run))
    except (Exception, KeyboardInterrupt) as error:  # every error becomes one paragraph here, and only here
        fail(error)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in gate.max_asr=0.2.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for summary.json and pages.  [runs/<time>-NAME]"
)
def retrain(config: Path, overrides: tuple[str, ...], output: Path | None) -> None:
    """As `run`, where rows changed since the champion was made, or its evidence is old; else end at once: skipped."""
    try:
        sys.exit(commands.retrain(config, overrides, output))
    except (Exception, KeyboardInterrupt) as error:
        _alert(error)
        fail(error)


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
    _answer(lambda: commands.schedule(config, action, overrides, output))


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
        sys.exit(commands.audit(model, config, overrides, output, dry_run, tracking_uri))
    except KeyboardInterrupt:
        from musclelora.errors import MuscleLoRAError

        fail(MuscleLoRAError("Interrupted. An audit keeps nothing half done: run the same command again."))
    except Exception as error:
        fail(error)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in seeds=[1,2,3].")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for results.json, tables and page.  [runs/<time>-NAME]"
)
@click.option("--dry-run", is_flag=True, help="Check config, data, weights, defences, stack and MLflow; start nothing.")
def compare(config: Path, overrides: tuple[str, ...], output: Path | None, dry_run: bool) -> None:
    """Train every method under every attack, as CONFIG says, and rank them. Finished cells are not trained again."""
    try:
        sys.exit(commands.compare(config, overrides, output, dry_run))
    except KeyboardInterrupt:
        from musclelora.errors import MuscleLoRAError

        fail(
            MuscleLoRAError(
                "Interrupted. Run the same command again: cells that had finished come from the cache, and a training "
                "that was cut off goes on from its last checkpoint."
            )
        )
    except Exception as error:
        fail(error)


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
@click.option(
    "--sample-rows", type=click.IntRange(min=1000), help="Rows that the encoder reads of a large table.  [all]"
)
@click.option("--groups", is_flag=True, help="Look for style and syntax too: minutes per 10,000 rows.")
@click.option("--seed", default=42, show_default=True, help="Decides every random draw.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for its files.  [runs/<time>-scan]")
def scan(data: str, output: Path | None, **options: Any) -> None:
    """Look for poison in DATA: a CSV, TSV, JSONL or Parquet file, a folder of them, or a `datasets` name.

    Exit code 0: nothing found; 3: suspects found; 1 or 2: an error.
    """
    try:
        sys.exit(commands.scan(data, output, **options))
    except (Exception, KeyboardInterrupt) as error:
        fail(error)


@main.command()
@click.argument("data")
@click.option("--rows", type=click.IntRange(min=2), default=96, show_default=True, help="How many to choose.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("sheet.csv"), show_default=True)
@click.option("--text", default="text", show_default=True, help="Column of the texts.")
@click.option("--label", default="label", show_default=True, help="Column of the labels; the sheet has it empty.")
@click.option("--row-id", help="Column of unique ids.  [rows are numbered]")
@click.option("--encoder", default="default", help="A package, a folder or a hub name.  [embedded]")
@click.option("--seed", default=42, show_default=True, help="Decides every random draw.")
def sheet(data: str, output: Path, **options: Any) -> None:
    """Choose the rows of DATA that a person should label first: a sheet that, filled in, is the trusted file."""
    _answer(lambda: commands.sheet(data, output, **options))


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
    from musclelora.config_file import sign_waiver

    _answer(lambda: f"{file} is signed by {sign_waiver(file, key)}.")


def _answer(work: Callable[[], str]) -> None:
    from musclelora.errors import MuscleLoRAError

    try:
        click.echo(work())
    except KeyboardInterrupt:
        fail(MuscleLoRAError("Interrupted. `musclelora verify NAME` says how far it came; run the same again."))
    except Exception as error:
        fail(error)


def _alert(error: BaseException) -> None:
    """Tell people that a retraining ended without a decision. What failed inside a run was told there, by its hook."""
    from pipelines.errors import StoppedError

    if not isinstance(error, StoppedError):
        from steps.alerting import raise_alert

        raise_alert(f"The retraining ended before it began, and the champion is where it was. {error}")


def _warnings_only(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


if __name__ == "__main__":
    main()
