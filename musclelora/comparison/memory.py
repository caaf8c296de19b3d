"""Peak memory of a part of a process: the high-water mark set back at its start, where the system can."""

import torch

from musclelora.training.fit import peak_memory_mb

_CLEAR_REFS, _STATUS, _RESET_PEAK = "/proc/self/clear_refs", "/proc/self/status", "5"


def reset_peak() -> None:
    """Linux sets its mark of this process back; elsewhere the peak stays that of the whole process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        with open(_CLEAR_REFS, "w", encoding="ascii") as file:
            file.write(_RESET_PEAK)
    except OSError:
        return  # not Linux, or a container that forbids it: the figure is then an upper bound


def peak_mb() -> float:
    """MiB since `reset_peak`, of the accelerator where there is one, else resident in this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        with open(_STATUS, encoding="ascii") as file:
            marks = [line.split()[1] for line in file if line.startswith("VmHWM:")]
    except OSError:
        marks = []
    return int(marks[0]) / 1024 if marks else peak_memory_mb()
