"""All defences: every subclass of `Defense` in a file of this folder, by its name. There is no list to extend."""

import importlib
import pkgutil
from typing import Any

from pydantic import ValidationError

from musclelora import defenses
from musclelora.defenses.base import Defense
from musclelora.errors import ConfigError, did_you_mean


def all_defenses() -> dict[str, type[Defense]]:
    """By name, sorted."""
    found: dict[str, type[Defense]] = {}
    for module in pkgutil.iter_modules(defenses.__path__):
        for item in vars(importlib.import_module(f"{defenses.__name__}.{module.name}")).values():
            if isinstance(item, type) and issubclass(item, Defense) and item is not Defense:
                found[item.name] = item
    return dict(sorted(found.items()))


def defense_by_name(name: str, settings: dict[str, Any]) -> Defense:
    """The defence with these settings; raises `ConfigError` for an unknown name or setting."""
    known = all_defenses()
    if name not in known:
        raise ConfigError(f"There is no defence {name!r}. {did_you_mean(name, known)}")
    kind = known[name]
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        wrong = ".".join(map(str, problem["loc"]))
        hint = did_you_mean(wrong, kind.model_fields) if problem["type"] == "extra_forbidden" else f"{problem['msg']}."
        raise ConfigError(f"The settings of the defence {name!r}: {wrong}: {hint}") from error


def defenses_table() -> str:
    """The list of docs/defenses.md, as Markdown."""
    lines = ["| defence | acts on | settings (defaults) | source |", "| --- | --- | --- | --- |"]
    for name, kind in all_defenses().items():
        settings = ", ".join(
            f"`{field}`" if info.is_required() else f"`{field}` ({info.default})"
            for field, info in kind.model_fields.items()
        )
        lines.append(f"| `{name}` | {', '.join(kind.acts_on())} | {settings or 'none'} | {kind.paper} |")
    return "\n".join(lines)
