"""ZenML's model control plane says what MLflow's aliases say. MLflow decides; this only follows.

The ZenML model has the registered model's name, its version `mlflow-3` is MLflow's version 3. Champion: stage
`production`; challenger, unless it is the champion: `staging`; whatever held a stage before: `archived`.
"""

from collections.abc import Mapping

from zenml import log_metadata
from zenml.client import Client
from zenml.enums import ModelStages

from musclelora.governance.ledger import CHALLENGER, CHAMPION


def follow_aliases(name: str, aliases: Mapping[str, str], described: Mapping[str, Mapping[str, str]]) -> None:
    """Set the stages of all versions of `name`; `described` are made where new, with what is to be said of them."""
    client = Client()
    try:
        model = client.get_model(name)
    except KeyError:
        model = client.create_model(name, description="Mirrors the model of this name in MLflow's registry.")
    versions = {version.name: version for version in client.list_model_versions(model=model.id, size=10_000).items}
    for number in {*aliases.values(), *described}:
        if _named(number) not in versions:
            versions[_named(number)] = client.create_model_version(model.id, _named(number))
    for number, about in described.items():
        log_metadata(metadata=dict(about), model_version_id=versions[_named(number)].id)
    wanted = {_named(of): ModelStages.STAGING for alias, of in aliases.items() if alias == CHALLENGER}
    wanted |= {_named(of): ModelStages.PRODUCTION for alias, of in aliases.items() if alias == CHAMPION}
    staged = {ModelStages.STAGING.value, ModelStages.PRODUCTION.value}
    for title, version in versions.items():
        stage = wanted.get(str(title)) or (ModelStages.ARCHIVED if version.stage in staged else None)
        if stage is not None and version.stage != stage.value:
            client.update_model_version(model.id, version.id, stage=stage, force=True)


def _named(number: str) -> str:
    return f"mlflow-{number}"
