"""How a run can stop. Apart from the launcher, so that a wrong config is answered without its slow imports."""

from musclelora.errors import MuscleLoRAError


class StoppedError(Exception):
    """A run that stopped before its end; the cause says why, `registering` whether its last stage had begun."""

    def __init__(self, registering: bool) -> None:
        super().__init__("The run stopped before its end.")
        self.registering = registering


class OutputError(MuscleLoRAError):
    """The run went through to its end, but its summary or pages could not be written."""
