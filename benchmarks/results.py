"""What every benchmark writes beside its figures: commit, machine, versions; and its last line."""

import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent / "results"
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")


def write(name: str, figures: dict[str, Any], **about: Any) -> None:
    """`benchmarks/results/NAME.json` with `figures`, and the last line `RESULT {figures}`."""
    record = {
        "benchmark": name,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "libraries": {library: version(library) for library in LIBRARIES},
        **about,
        **figures,
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"RESULT {json.dumps(figures)}")


class Journal:
    """Finished pieces of a benchmark by their `key`, one JSON line each; a kill leaves the old file or the new one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.done: dict[str, dict[str, Any]] = {line["key"]: line for line in map(json.loads, lines)}

    def add(self, key: str, line: dict[str, Any]) -> None:
        """Write the line, with the commit of the code beside it."""
        self.done[key] = {"key": key, **line, "commit": commit()}
        self._file.parent.mkdir(exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_text("".join(json.dumps(one) + "\n" for one in self.done.values()), encoding="utf-8")
        new.replace(self._file)


def machine() -> dict[str, Any]:
    """Processor, cores, threads of torch, memory in GiB."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "cpu": cpu,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": None if memory is None else round(memory, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str:
    """The commit of the code, with "-dirty" where a file differs from it that no benchmark writes."""
    root = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603

    written = (":!benchmarks/results", ":!docs/benchmarks.md")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    return git("describe", "--always", "--abbrev=12") + ("-dirty" if changed else "") or "unknown"
