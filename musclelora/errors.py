"""Errors a user can act on: each says what happened, the likely cause and what to do, in one paragraph."""

import difflib
from collections.abc import Iterable


class MuscleLoRAError(Exception):
    """Base of all expected errors. `exit_code` is what the `musclelora` command returns for it."""

    exit_code = 1


class ConfigError(MuscleLoRAError):
    """The configuration or the command line is wrong: nothing was started."""

    exit_code = 2


class DataError(MuscleLoRAError):
    """A data file or a row of it cannot be used."""


class ModelError(MuscleLoRAError):
    """Weights cannot be loaded, are not what they should be, or do not survive a save and reload."""


class RegistryError(MuscleLoRAError):
    """The MLflow server or registry refused, failed or could not be reached."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or the list of what is known when nothing is near."""
    choices = sorted(known)
    near = difflib.get_close_matches(wrong, choices, n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(choices)}."
