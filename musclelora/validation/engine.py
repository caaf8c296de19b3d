"""Where the partitions of a scan are computed: in this process, or by the workers of a Dask cluster.

A scan cuts its rows into partitions of `partition_rows`, whoever computes them, and adds up what they say in their
order: so a scan finds the same with one process, with many, and where a worker died and another did its work again.
Why Dask: docs/validation.md.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from musclelora.errors import ConfigError, MuscleLoRAError
from musclelora.validation.config import PARTITION_ROWS, EngineConfig

WAIT = 20  # seconds for a scheduler to answer
LOCAL_CLUSTER: dict[str, Any] = {
    "threads_per_worker": 1,
    "dashboard_address": "127.0.0.1:0",  # else its pages are for everybody, as those of the workers
    "worker_dashboard_address": "127.0.0.1:0",
}


class EngineError(MuscleLoRAError):
    """The workers of an engine cannot be reached, or do not finish their work."""


class Engine(Protocol):
    """Calls functions of partitions; what they give stays with the worker until `results` fetches it."""

    @property
    def partition_rows(self) -> int: ...

    def share(self, value: Any) -> Any:
        """One value for the calls of all partitions."""

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """`function` of each partition; arguments may be what `share` or an earlier `map` gave."""

    def results(self, calls: Sequence[Any]) -> Iterator[Any]:
        """What the calls gave, in their order."""


@dataclass(frozen=True)
class Local:
    """One partition after the other, in this process."""

    partition_rows: int = PARTITION_ROWS

    def share(self, value: Any) -> Any:
        return value

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        return [function(*of_partition) for of_partition in zip(*arguments, strict=False)]

    def results(self, calls: Sequence[Any]) -> Iterator[Any]:
        return iter(calls)


LOCAL = Local()


@dataclass
class Dask:
    """The workers of a `distributed.Client`. Values travel inside the tasks, so that no worker is the only one to have
    them, and a task can be done again by another."""

    client: Any
    partition_rows: int = PARTITION_ROWS

    def share(self, value: Any) -> Any:
        return self.client.submit(_called, _itself, _Opaque(value), pure=False)

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        from distributed import Future

        return [
            self.client.submit(
                _called, function, *(a if isinstance(a, Future) else _Opaque(a) for a in of_partition), pure=False
            )
            for of_partition in zip(*arguments, strict=False)
        ]

    def results(self, calls: Sequence[Any]) -> Iterator[Any]:
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        try:
            for call in calls:
                yield call.result()
        except KilledWorker as error:
            raise EngineError(
                f"The same partition of the scan lost several workers one after the other ({error}). Most likely it "
                "does not fit into their memory: set validation.engine.partition_rows lower, or give the workers more."
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise EngineError(
                "The Dask scheduler was lost in the middle of the scan, and with it what the workers had found. Look "
                "at its log, and start the run again."
            ) from error


def cuts_of(rows: int, engine: Engine) -> list[slice]:
    """Where `rows` are cut into partitions."""
    return [slice(i, i + engine.partition_rows) for i in range(0, max(rows, 1), engine.partition_rows)]


@contextmanager
def running(config: EngineConfig) -> Iterator[Engine]:
    """The engine of the configuration; a cluster that was started for it is closed at the end.

    Raises `ConfigError` where Dask is not installed, `EngineError` where its scheduler cannot be reached.
    """
    if config.name == "local":
        yield Local(config.partition_rows)
        return
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigError(
            "validation.engine.name is dask, which is not installed: pip install 'musclelora-pipelines[dask]', here "
            "and on the workers."
        ) from error
    # Texts travel inside the tasks on purpose.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "100 GB"}):
        if config.scheduler is None:
            with LocalCluster(n_workers=config.workers, **LOCAL_CLUSTER) as cluster, Client(cluster) as client:
                yield Dask(client, config.partition_rows)
            return
        try:
            client = Client(config.scheduler, timeout=WAIT)
        except (OSError, ValueError) as error:
            raise EngineError(
                f"No Dask scheduler answers at validation.engine.scheduler {config.scheduler!r}: {error}. Is it "
                "running (`dask scheduler`), and reachable from here? Without the key a local cluster is started."
            ) from error
        with client:
            yield Dask(client, config.partition_rows)


class _Opaque:
    """Keeps Dask from looking into a value, which takes long for a list of texts."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*(a.value if isinstance(a, _Opaque) else a for a in arguments))


def _itself(value: Any) -> Any:
    return value
