"""The `musclelora` command: thin over the pipelines. Errors are one paragraph; exit codes are in the README."""

import errno
import logging
import os
import sys
import time
import traceback
from pathlib import Path

import click

# Before zenml, great_expectations or mlflow are imported: they decide at import whether to report usage.
QUIET = {
    "ZENML_ANALYTICS_OPT_IN": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


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
    os.environ["MUSCLELORA_DEBUG"] = "1" if debug else ""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
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
    except KeyboardInterrupt:
        _fail("Interrupted. Nothing was registered. Run the same command again: finished steps come from the cache.")
    except Exception as error:  # every error becomes one paragraph and an exit code here, and only here
        _fail(_paragraph(error), getattr(error, "exit_code", 1))


def _run(path: Path, overrides: tuple[str, ...], output: Path | None, dry_run: bool) -> int:
    from musclelora.config import load_config

    config = load_config(path, overrides)  # before the slow imports: a typing error answers at once
    from musclelora.ingest import ingest
    from pipelines.launch import launch, prepare
    from pipelines.table import exit_code, results_table

    prepared = prepare(config)
    if dry_run:
        delivery = ingest(config.data, config.seed)
        names = ", ".join(training.part for training in prepared.trainings)
        click.echo(f"The configuration is sound: {len(delivery.train)} training, {len(delivery.dev)} dev, ", nl=False)
        click.echo(f"{len(delivery.test)} test and {len(delivery.trusted)} trusted rows; {prepared.backbone.name};")
        click.echo(f"models to train: {names}. Nothing was started.")
        return 0
    folder = output or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{config.name}"
    finished = launch(prepared, folder)
    click.echo(results_table(finished.report, finished.summary))
    if finished.cached_steps:
        click.echo(f"Served from the cache: {', '.join(finished.cached_steps)}.")
    for reason in finished.summary.gate.reasons:
        click.echo(f"- {reason}")
    click.echo(f"summary.json and the pages are in {folder} (start with {folder / 'robustness.html'})")
    return exit_code(finished.summary.status)


def _paragraph(error: Exception) -> str:
    """What happened, for a person; full disks are named, since every library words them differently."""
    from musclelora.errors import MuscleLoRAError

    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) == errno.ENOSPC or "disk is full" in str(seen) or "No space left" in str(seen):
            return (
                "The disk is full. Nothing was registered, and nothing that was there before was lost. Free some space "
                "and run the same command again: finished steps come from the cache."
            )
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, MuscleLoRAError):
        return str(error)
    first = " ".join(str(error).split())[:500]
    return f"Unexpected {type(error).__name__}: {first}. Nothing was registered. `musclelora --debug run` shows where."


def _fail(message: str, code: int = 1) -> None:
    if os.environ.get("MUSCLELORA_DEBUG"):
        traceback.print_exc()
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
