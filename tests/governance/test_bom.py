"""The bill of materials: known parts, hashes as recorded, valid against the schema, and refused where it is not."""

import dataclasses
import json
from importlib.metadata import version

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from musclelora.errors import ModelError
from musclelora.governance.bom import bill_of_materials
from musclelora.training.defended_model import DefendedModel


def test_the_bill_names_the_base_the_data_and_the_libraries(tiny_model: DefendedModel) -> None:
    text = bill_of_materials(tiny_model, "reviews", "7" * 64)

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    tuned = bom["metadata"]["component"]
    assert (tuned["type"], tuned["name"]) == ("machine-learning-model", "reviews")
    assert tuned["hashes"] == [{"alg": "SHA-256", "content": tiny_model.sha256}]
    parts = {part["bom-ref"]: part for part in bom["components"]}
    hashes = {ref: part["hashes"][0]["content"] for ref, part in parts.items() if "hashes" in part}
    assert hashes == {"base": "b" * 64, "data:train": "d" * 64, "data:trusted": "e" * 64, "data:test": "7" * 64}
    assert parts["base"]["name"] == "/models/tiny-bert"
    assert f"pkg:pypi/torch@{version('torch').replace('+', '%2B')}" in {part.get("purl") for part in parts.values()}
    [depends] = [item["dependsOn"] for item in bom["dependencies"] if item["ref"] == "model"]
    assert set(depends) == set(parts)


def test_a_hash_that_is_none_is_refused(tiny_model: DefendedModel) -> None:
    broken = dataclasses.replace(tiny_model)
    broken.__dict__["record"] = tiny_model.record.model_copy(update={"base_sha256": "unknown"})

    with pytest.raises(ModelError, match="not valid CycloneDX"):
        bill_of_materials(broken, "reviews", "7" * 64)
