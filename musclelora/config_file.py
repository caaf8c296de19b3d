"""Configuration files: YAML to typed sections. A wrong key gets the nearest right one."""

import difflib
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from musclelora.config import AuditConfig, CompareConfig, RunConfig
from musclelora.data.readers import resolve
from musclelora.errors import ConfigError, did_you_mean
from musclelora.frozen import Frozen
from musclelora.governance.waiver import Waiver, check_waivers, sign

PATH_KEYS = ("train", "dev", "test", "dataset")
# user:password@ of any address, and whatever stands before the @ of a web address: tokens are given so.
SECRET = re.compile(r"://[^/\s@]*:[^/\s]*@|https?://[^/\s]+@")
Config = TypeVar("Config", bound=Frozen)


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read a YAML file, apply `a.b=c` overrides, resolve relative paths against the file's folder, and check all.

    Raises `ConfigError` for a missing or malformed file, an unknown key (with the nearest known one) or a bad value.
    """
    config = _validated(RunConfig, Path(path), overrides)
    check_waivers(config.waivers, config.gate.waiver_keys, config.registry.name, datetime.now(timezone.utc))
    return config


def load_audit_config(path: str | Path, overrides: tuple[str, ...] = ()) -> AuditConfig:
    """The same for an audit."""
    return _validated(AuditConfig, Path(path), overrides)


def load_compare_config(path: str | Path, overrides: tuple[str, ...] = ()) -> CompareConfig:
    """The same for a comparison."""
    return _validated(CompareConfig, Path(path), overrides)


def _validated(kind: type[Config], path: Path, overrides: tuple[str, ...]) -> Config:
    raw = _read_yaml(path)
    for override in overrides:
        _apply(raw, override)
    _refuse_secrets(raw, "")
    _merge_policy(raw, path.parent)
    _read_waivers(raw, path.parent)
    _resolve_paths(raw.get("data"), path.parent)
    _resolve_model(raw.get("model"), "base", path.parent)
    _resolve_model(raw, "floor", path.parent)
    if isinstance(raw.get("validation"), dict):
        _resolve_model(raw["validation"].get("trusted_model"), "encoder", path.parent)
        suites = raw["validation"].get("suites")
        if isinstance(suites, list):
            raw["validation"]["suites"] = [str((path.parent / str(suite)).resolve()) for suite in suites]
    for data in _sections(raw.get("datasets")):
        _resolve_paths(data, path.parent)
    for model in _sections(raw.get("backbones")):
        _resolve_model(model, "base", path.parent)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + " ".join(_explain(problem, kind) for problem in error.errors())) from error


def sign_waiver(path: Path, key: Path) -> str:
    """Append its signature to a waiver file. Returns whose it is. Raises `ConfigError` for one that has a signature."""
    raw = _read_yaml(path)
    if "signature" in raw:
        raise ConfigError(f"{path} is signed already: remove the line `signature`, and sign again.")
    try:
        waiver = Waiver.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path} is no waiver: {problems}") from error
    with path.open("r+", encoding="utf-8") as file:
        ends_its_line = file.read().endswith("\n")
        file.write(f"{'' if ends_its_line else chr(10)}signature: {sign(waiver, key)}\n")
    return waiver.person


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        hint = f" Did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"There is no configuration file {path}.{hint}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must be a YAML mapping with sections such as `data`; it is empty or something else.")
    return raw


def _refuse_secrets(item: Any, where: str) -> None:
    """Files are copied and command lines are listed: an address with a password belongs in the environment."""
    if isinstance(item, dict):
        for key, value in item.items():
            _refuse_secrets(value, f"{where}.{key}".lstrip("."))
    elif isinstance(item, list):
        for value in item:
            _refuse_secrets(value, where)
    elif isinstance(item, str) and SECRET.search(item):
        raise ConfigError(
            f"{where} is an address with a password or a token in it, which would be copied with the configuration. "
            "Leave it out, and give it by the environment: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "MLFLOW_TRACKING_URI for a database, and for data what fsspec reads (AWS_ACCESS_KEY_ID and the like)."
        )


def _merge_policy(raw: dict[str, Any], folder: Path) -> None:
    """`gate: {policy: FILE, ...}` becomes the file's thresholds, overridden by those written beside it."""
    gate = raw.get("gate")
    if isinstance(gate, str):
        gate = {"policy": gate}
    if isinstance(gate, dict) and "policy" in gate:
        own = {key: value for key, value in gate.items() if key != "policy"}
        raw["gate"] = _read_yaml(folder / str(gate["policy"])) | own


def _read_waivers(raw: dict[str, Any], folder: Path) -> None:
    """`waivers: [FILE, ...]` becomes what the files say."""
    waivers = raw.get("waivers")
    if isinstance(waivers, list):
        raw["waivers"] = [_read_yaml(folder / item) if isinstance(item, str) else item for item in waivers]


def _apply(raw: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key.strip("."):
        raise ConfigError(f"--set {override!r} is not of the form section.key=value.")
    *parents, last = key.strip().split(".")
    section = raw
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, not a section.")
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML.") from error


def _sections(named: Any) -> list[Any]:
    return list(named.values()) if isinstance(named, dict) else []


def _resolve_paths(data: Any, folder: Path) -> None:
    """Local paths of the data section become absolute: they are relative to the YAML file, not to who runs it."""
    if not isinstance(data, dict):
        return
    named = data.get("triggered")
    triggered = [(named, attack) for attack in named] if isinstance(named, dict) else []
    triggered += [(files, key) for files in _sections(data.get("ready_made")) for key in ("train", "triggered")]
    for section, key in [*((data, key) for key in PATH_KEYS), (data.get("trusted"), "path"), *triggered]:
        if isinstance(section, dict) and isinstance(section.get(key), str) and "://" not in section[key]:
            resolved = resolve(section[key], folder)
            if resolved.kind == "path":
                section[key] = str(Path(resolved.name).resolve())


def _resolve_model(section: Any, key: str, folder: Path) -> None:
    """A backbone that is a folder, or is written like one, is relative to the YAML file too; else it is a hub name."""
    name = section.get(key) if isinstance(section, dict) else None
    if isinstance(name, str) and (name.startswith((".", "/", "~")) or (folder / name).is_dir()):
        section[key] = str((folder / Path(name).expanduser()).resolve())


def _explain(problem: Any, kind: type[BaseModel]) -> str:
    """One sentence on one problem that pydantic found."""
    where = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] == "extra_forbidden":
        *parents, wrong = problem["loc"]
        return f"unknown key {where!r}. {did_you_mean(str(wrong), _fields_at(parents, kind))}"
    if problem["type"] == "missing":
        return f"{where} is required."
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if problem["type"] == "model_type":
        message = "must be a section of keys"
    return f"{where}: {message}" + ("." if isinstance(problem["input"], dict) else f" (given: {problem['input']!r}).")


def _fields_at(parents: list[str | int], kind: type[BaseModel]) -> list[str]:
    """Keys allowed in the section that `parents` leads to."""
    model: Any = kind
    for parent in parents:
        annotation = model.model_fields[parent].annotation if parent in model.model_fields else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)
