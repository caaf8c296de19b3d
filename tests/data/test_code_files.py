"""A model folder with a pickle or code of its own is refused, unless the file is allowed by its name."""

import json

import pytest

from musclelora.data.code_files import refuse_code
from musclelora.errors import ModelError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name, content in {
        "config.json": "{}",
        "model.safetensors": "",
        "tokenizer.json": "{}",
        "README.md": "",
    }.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_plain_folder_passes(folder):
    refuse_code(folder)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "deep/x.PKL", "a.pt", "b.joblib", "c.npy", "modeling_evil.py", "deep/d.so", "e.pyc"]
)
def test_a_pickle_or_code_is_named_and_may_be_allowed_by_its_name(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(ModelError, match=rf"holds {name}: .*model\.allow"):
        refuse_code(folder)
    with pytest.raises(ModelError):
        refuse_code(folder, ["other.bin", name.upper() + "x"])
    refuse_code(folder, [name])


@pytest.mark.parametrize("config", ["config.json", "tokenizer_config.json"])
def test_a_config_that_points_to_code_is_refused(folder, config):
    (folder / config).write_text(json.dumps({"auto_map": {"AutoModel": "modeling_evil.Evil"}}))
    with pytest.raises(ModelError, match=config):
        refuse_code(folder)
    refuse_code(folder, [config])


@pytest.mark.parametrize("content", ["{", "[]", '{"auto_map": {}}'])
def test_a_config_without_code_or_that_is_none_is_left_to_who_loads_it(folder, content):
    (folder / "config.json").write_text(content)
    refuse_code(folder)
