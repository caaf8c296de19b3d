"""How far long work is, for whoever watches: on the logger `musclelora.progress`, which the command line shows."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

SECONDS_BETWEEN = 15.0
logger = logging.getLogger("musclelora.progress")
Part = TypeVar("Part")


def watched(parts: Sequence[Part], sizes: Sequence[float], what: str) -> Iterator[Part]:
    """The parts, one by one. At most every `SECONDS_BETWEEN` seconds it says which share of all `sizes` is done, and
    about how long the rest will take: such as "group scan: 40%, about 3 min left"."""
    began = said = time.monotonic()
    done, total = 0.0, float(sum(sizes))
    for part, size in zip(parts, sizes, strict=True):
        yield part
        done += size
        now = time.monotonic()
        if 0 < done < total and now - said >= SECONDS_BETWEEN:
            said = now
            logger.info(f"  {what}: {done / total:.0%}, {about((now - began) * (total / done - 1))} left")


def about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"
