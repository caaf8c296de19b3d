"""Every defence is found by its file, says where it acts, and refuses wrong settings."""

from pathlib import Path

import pytest

from musclelora import defenses
from musclelora.defenses.registry import all_defenses, defense_by_name, defenses_table
from musclelora.errors import ConfigError

TRAINING, INFERENCE = ("training data",), ("inference",)
ACTS_ON = {
    "bki": TRAINING,
    "cube": TRAINING,
    "onion": INFERENCE,
    "purify": TRAINING,
    "rap": INFERENCE,
    "seep": TRAINING,
    "strip": INFERENCE,
    "z-def": TRAINING,
}
NEW = """
from typing import ClassVar

from musclelora.defenses.base import Defense


class Longest(Defense):
    name: ClassVar[str] = "longest"
    paper: ClassVar[str] = "nobody"
    words: int = 9

    def suspects(self, rows, defender):
        import numpy as np

        return np.array([len(text.split()) > self.words for text in rows.texts])
"""


def test_all_are_found_and_say_where_they_act():
    assert {name: kind.acts_on() for name, kind in all_defenses().items()} == ACTS_ON
    assert {name for name, kind in all_defenses().items() if "arXiv" not in kind.paper} == {"purify"}


def test_a_file_in_the_folder_is_enough(tmp_path, monkeypatch):
    (tmp_path / "longest.py").write_text(NEW, encoding="utf-8")
    monkeypatch.setattr(defenses, "__path__", [*defenses.__path__, str(tmp_path)])
    assert defense_by_name("longest", {"words": 5}).words == 5
    assert "| `longest` | training data | `words` (9) | nobody |" in defenses_table()


def test_the_list_of_the_documentation_is_the_registry():
    page = Path(__file__).parents[2] / "docs/defenses.md"
    assert defenses_table() in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("cubes", {}, "Did you mean 'cube'"),
        ("cube", {"epoch": 2}, "Did you mean 'epochs'"),
        ("strip", {"refused_share": 2}, "refused_share"),
    ],
)
def test_wrong_names_and_settings_are_said(name, settings, said):
    with pytest.raises(ConfigError, match=said):
        defense_by_name(name, settings)
