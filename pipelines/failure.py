"""What a person reads when a command fails, and the exit code."""

import errno
import os
import sys
import traceback

import click


def fail(error: BaseException) -> None:
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
