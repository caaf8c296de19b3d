"""bom.cdx.json: what a model was made of, as a CycloneDX 1.6 bill of materials that scanners of supply chains read."""

import json
from importlib.metadata import version as installed_version

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from musclelora.errors import ModelError
from musclelora.training.defended_model import DefendedModel

BOM = "bom.cdx.json"
# What trained the model, and what it takes to load it.
LIBRARIES = ("datasets", "great-expectations", "mlflow", "peft", "safetensors", "tokenizers", "torch", "transformers")


def bill_of_materials(model: DefendedModel, name: str, test_sha256: str) -> str:
    """The model, the model it was tuned from, the data with their hashes, and the libraries, as JSON.

    Raises `ModelError` if it is not valid against the schema of CycloneDX 1.6.
    """
    record = model.record
    tuned = _part("model", ComponentType.MACHINE_LEARNING_MODEL, name, model.sha256)
    tuned.properties.update(
        [
            Property(name="musclelora:recipe", value=record.recipe.name),
            Property(name="musclelora:preset", value=record.recipe.preset),
            Property(name="musclelora:seed", value=str(record.seed)),
            Property(name="musclelora:rows", value=str(record.rows)),
        ]
    )
    data = [
        _part("data:train", ComponentType.DATA, f"{name}-train", record.data_sha256),
        _part("data:trusted", ComponentType.DATA, f"{name}-trusted", record.trusted_sha256),
        _part("data:test", ComponentType.DATA, f"{name}-test", test_sha256),
    ]
    base = _part("base", ComponentType.MACHINE_LEARNING_MODEL, record.base, record.base_sha256)
    bom = Bom(components=[base, *data, *(_library(library) for library in LIBRARIES)])
    bom.metadata.component = tuned
    bom.register_dependency(tuned, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise ModelError(f"The bill of materials is not valid CycloneDX: {str(problem).splitlines()[0]}")
    return json.dumps(json.loads(text), indent=1, ensure_ascii=False)


def _part(ref: str, kind: ComponentType, name: str, sha256: str) -> Component:
    return Component(bom_ref=ref, type=kind, name=name, hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)])


def _library(name: str) -> Component:
    version = installed_version(name)
    url = PackageURL("pypi", name=name, version=version)
    return Component(bom_ref=str(url), type=ComponentType.LIBRARY, name=name, version=version, purl=url)
