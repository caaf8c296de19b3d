"""A run that found nothing to do: its DAG is static, so that every later step still runs, and returns at once."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin

from musclelora.frozen import Frozen


class Idle(Frozen):
    """Stands in for what a step would have made."""

    reason: str


def unless_idle(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same step function, which returns `Idle` for each of its outputs where one of its inputs is `Idle`.

    Its annotations say so too: ZenML reads from them which materializer an input or output may need.
    """
    signature = inspect.signature(function)
    outputs = _outputs(signature.return_annotation)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = [
            item for value in (*args, *kwargs.values()) for item in (value if isinstance(value, list) else [value])
        ]
        idle = next((value for value in given if isinstance(value, Idle)), None)
        if idle is None:
            return function(*args, **kwargs)
        return None if not outputs else idle if len(outputs) == 1 else (idle,) * len(outputs)

    parameters = [p.replace(annotation=_or_idle(p.annotation)) for p in signature.parameters.values()]
    returned: Any = None
    if outputs:
        returned = _or_idle(outputs[0]) if len(outputs) == 1 else tuple[tuple(map(_or_idle, outputs))]  # type: ignore[misc]
    wrapped.__signature__ = signature.replace(parameters=parameters, return_annotation=returned)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": returned}
    return wrapped


def _outputs(annotation: Any) -> tuple[Any, ...]:
    if annotation is None:
        return ()
    return get_args(annotation) if get_origin(annotation) is tuple else (annotation,)


def _or_idle(annotation: Any) -> Any:
    """`T | Idle`, inside `Annotated` and `list` where that is what T is."""
    if get_origin(annotation) is Annotated:
        kind, *notes = get_args(annotation)
        return Annotated[(_or_idle(kind), *notes)]
    if get_origin(annotation) is list:
        return list[_or_idle(*get_args(annotation))]  # type: ignore[misc]
    return Union[annotation, Idle]  # noqa: UP007  (ZenML knows both spellings; this one takes any annotation)
