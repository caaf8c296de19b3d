"""What the registry holds after a run."""

from musclelora.frozen import Frozen


class RegisteredVersion(Frozen):
    """One model version: where it is and which aliases point to it. A refused one has none."""

    name: str
    version: str
    aliases: list[str]
    model_uri: str
    run_id: str
    tracking_uri: str
    decision: str
