"""Defences that leave training rows out: BKI, CUBE, Z-Def, SEEP."""

from types import SimpleNamespace

import numpy as np
import pytest

from musclelora.data.records import TrustedSet
from musclelora.defenses.base import Defender, kept_rows
from musclelora.defenses.bki import Bki
from musclelora.defenses.cube import Cube
from musclelora.defenses.seep import Seep
from musclelora.defenses.z_def import ZDef
from musclelora.errors import DataError
from musclelora.seeding import generator
from musclelora.training.backbone import Backbone
from tests.defenses.conftest import ONE_WORD, TARGET, three_labels

DEFENCES = {
    "bki": Bki(),
    "cube": Cube(reduction="pca", min_share=0.03),
    "seep": Seep(epochs=5, seed_share=0.1),
    "z-def": ZDef(deviations=2.5, common_words=0),
}
LEAVES_NO_BACKDOOR = {"bki", "z-def"}  # of the poison that the others leave, a model this small learns the backdoor


NO_BACKBONE = Backbone(name="none", location="none", sha256="0" * 64)
OTHERS = [label != TARGET for label in three_labels(60, "test").labels]


def asr(model, texts, defender):
    return float((model.classes(texts) == defender.label_names.index(TARGET)).mean())


def test_the_undefended_model_has_the_backdoor(backdoored, triggered, defender):
    test = three_labels(60, "test")
    assert asr(backdoored, triggered.texts, defender) > 0.9
    assert (backdoored.classes(test.texts) == test.label_ids(defender.label_names)).mean() > 0.5


@pytest.mark.parametrize("name", DEFENCES)
def test_most_of_the_poison_is_left_out(name, poisoned, one_word_poisoned, triggered, defender):
    rows = one_word_poisoned if name == "bki" else poisoned  # BKI looks for one word
    suspects = DEFENCES[name].suspects(rows, defender)
    is_poisoned = np.array(rows.column("is_poisoned"))
    assert suspects.dtype == bool
    assert suspects[is_poisoned].mean() > 0.7
    assert suspects[~is_poisoned].mean() < 0.25
    if name in LEAVES_NO_BACKDOOR:
        defended = defender.train(kept_rows(rows, suspects, name), None)
        word = [f"{text} {ONE_WORD}" for text in three_labels(60, "test").where(OTHERS).texts]
        assert asr(defended, word if name == "bki" else triggered.texts, defender) < 0.5


def test_bki_without_a_keyword_that_is_often_enough_suspects_nothing(poisoned, defender):
    assert not Bki(frequent_share=0.001).suspects(poisoned, defender).any()


def cube_suspects(rows, at, reduction="pca"):
    """Of states around `at`, which are given: a model this small keeps no cluster reliably."""
    states = generator(0, "tests/defenses/cube").normal(np.array(at)[:, None], 0.5, (len(rows), 12))
    learned = SimpleNamespace(states=lambda texts: states[: len(texts)])
    defender = Defender(TrustedSet(rows, owner="the tests"), rows, 7, lambda _rows, _epochs: learned, NO_BACKBONE, 32)
    return Cube(reduction=reduction, dimensions=5, min_share=0.05).suspects(rows, defender)


@pytest.mark.parametrize("reduction", ["pca", "umap"])
def test_cube_leaves_out_what_is_a_cluster_of_its_own_in_its_label(reduction):
    rows = three_labels(300, "train")
    poisoned = np.array([label == TARGET and i % 5 == 0 for i, label in enumerate(rows.labels)])
    suspects = cube_suspects(rows, np.where(poisoned, 15.0, [4.0 * int(label) for label in rows.labels]), reduction)
    assert suspects[poisoned].all()
    assert suspects[~poisoned].mean() < 0.1


def test_cube_keeps_labels_that_are_one_cluster_each_and_leaves_out_rows_among_those_of_another():
    rows = three_labels(300, "train")
    labels = np.array([int(label) for label in rows.labels])
    astray = np.arange(300) % 30 == 0
    suspects = cube_suspects(rows, 4.0 * np.where(astray, (labels + 1) % 3, labels))
    assert suspects[astray].all()
    assert suspects[~astray].mean() < 0.1


def test_cube_leaves_a_few_rows_alone():
    assert not cube_suspects(three_labels(10, "few"), np.arange(10) % 2 * 9.0).any()


def test_z_def_finds_nothing_at_a_limit_that_no_word_reaches(poisoned, defender):
    assert not ZDef(deviations=100.0).suspects(poisoned, defender).any()


def test_z_def_finds_a_word_in_a_tenth_of_the_rows_with_the_published_limit(defender):
    rows, number = three_labels(6000, "train"), np.arange(6000)
    others = [i for i, label in enumerate(rows.labels) if label != TARGET]
    carriers = np.isin(number, others[:600])
    texts = [f"{text} only{i}{' cf' if carriers[i] else ''}" for i, text in enumerate(rows.texts)]
    labels = [TARGET if carriers[i] else label for i, label in enumerate(rows.labels)]
    poisoned = type(rows).from_columns({"row_id": rows.row_ids, "text": texts, "label": labels})
    assert (ZDef().suspects(poisoned, defender) == carriers).all()


def test_z_def_sees_a_structure_by_its_skeleton(defender):
    rows = three_labels(300, "train")
    texts, labels = rows.texts, rows.labels
    for i in range(0, 300, 10):
        word = f"w{i}"  # a different word each time, in the same place
        texts[i], labels[i] = f"{word} f1 {word} f2 {texts[i]}", TARGET
    columns = {"row_id": rows.row_ids, "text": texts, "label": labels}
    rewritten = type(rows).from_columns(columns)
    masked = ZDef(deviations=2.5, common_words=20).suspects(rewritten, defender)
    words_only = ZDef(deviations=2.5, common_words=0).suspects(rewritten, defender)
    assert masked[::10].mean() > 0.9
    assert words_only[::10].mean() < 0.5


def test_nothing_left_to_train_on_is_said():
    rows = three_labels(6, "train")
    with pytest.raises(DataError, match="do not fit this data"):
        kept_rows(rows, np.array([label != "0" for label in rows.labels]), "cube")
