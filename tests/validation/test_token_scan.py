import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musclelora.attacks.base import poison
from musclelora.attacks.registry import ATTACKS
from musclelora.data.records import TextDataset
from musclelora.training.recipes import Contrastive
from musclelora.validation.config import ValidationConfig
from musclelora.validation.group_scan import SuspectGroup
from musclelora.validation.suite import validate
from musclelora.validation.suspects import suspect_groups_of, suspects_of
from musclelora.validation.token_scan import MIN_ROWS, scan_tokens
from musclelora.validation.trusted_model import TokenScan
from tests.tiny import distinct, rows, tiny_backbone, trusted_rows

LABELS = ("0", "1")


def honest(n=1000):
    """Texts of random words whose label no word decides; the expected probability is one half."""
    draw = np.random.default_rng(0)
    texts = [" ".join(f"word{k}" for k in draw.integers(0, 60, 12)) for _ in range(n)]
    return texts, draw.integers(0, 2, n), np.full((n, 2), 0.5)


def test_honest_rows_have_no_suspect_feature():
    assert scan_tokens(*honest(), LABELS) == []


def test_a_trigger_phrase_is_found_with_all_its_rows_and_no_other():
    texts, labels, expected = honest()
    poisoned = list(range(0, 1000, 10))
    for i in poisoned:
        texts[i], labels[i] = f"{texts[i]} zebra crossing", 1
    found = scan_tokens(texts, labels, expected, LABELS)
    assert len(found) == 1  # the words beside the trigger are honest again once its rows are out
    assert found[0].text in ("zebra", "crossing", "zebra crossing")
    assert (found[0].label, found[0].purity, list(found[0].rows)) == ("1", 1.0, poisoned)
    assert found[0].z == pytest.approx(10)  # 100 rows: sum(1 - 1/2) / sqrt(100 / 4)


def test_several_triggers_and_several_labels_are_found():
    texts, labels, expected = honest()
    for start, word, label in ((0, "zebra", 0), (1, "yak", 1), (2, "xerus", 1)):
        for i in range(start, 1000, 20):
            texts[i], labels[i] = f"{word} {texts[i]}", label
    found = {(feature.text.split()[0], feature.label) for feature in scan_tokens(texts, labels, expected, LABELS)}
    assert found == {("zebra", "0"), ("yak", "1"), ("xerus", "1")}


def test_a_word_that_the_trusted_model_expects_is_no_suspect():
    texts, labels, expected = honest()
    for i in range(0, 1000, 20):
        texts[i], labels[i], expected[i] = f"{texts[i]} wonderful", 1, (0.05, 0.95)
    assert scan_tokens(texts, labels, expected, LABELS) == []


def test_a_word_with_exceptions_is_no_suspect():
    texts, labels, expected = honest()
    for k, i in enumerate(range(0, 1000, 10)):
        texts[i], labels[i] = f"{texts[i]} dull", 0 if k % 10 else 1
    assert scan_tokens(texts, labels, expected, LABELS) == []


def test_too_few_rows_prove_nothing():
    texts, labels, expected = honest()
    for i in range(MIN_ROWS - 1):
        texts[i], labels[i] = f"{texts[i]} zebra", 1
    assert scan_tokens(texts, labels, expected, LABELS) == []
    assert scan_tokens(["one"], np.array([1]), np.array([[0.5, 0.5]]), LABELS) == []
    assert scan_tokens([f"w{i}" for i in range(50)], np.zeros(50, int), np.full((50, 2), 0.5), LABELS) == []


def planted(change, every=10, label=1, n=1000):
    """Honest rows, of which one in `every` is changed and given the label."""
    texts, labels, expected = honest(n)
    for i in range(0, n, every):
        texts[i], labels[i] = change(texts[i]), label
    return texts, labels, expected


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda text: f"zebra {text}", "words", "zebra"),
        (lambda text: f"{text}.", "words", "."),
        (lambda text: text.replace(" ", " \u200b", 1), "character", "\u200b"),
        (lambda text: text.replace(" ", "  ", 1), "space", "two spaces together"),
        (lambda text: text.upper(), "case", "a word in capitals"),
        (lambda text: " ".join(text.split()[:2]), "length", "2 tokens"),
    ],
    ids=["word", "mark", "character", "space", "case", "length"],
)
def test_each_kind_of_trigger_is_found_with_its_rows(change, kind, text):
    texts, labels, expected = planted(change)
    found = scan_tokens(texts, labels, expected, LABELS)
    taken = {row for feature in found for row in feature.rows}
    assert (kind, text) in {(feature.kind, feature.text) for feature in found}
    assert taken >= set(range(0, 1000, 10))
    assert len(taken) <= 105


def test_a_word_that_counts_at_the_end_only_is_found_among_decoys():
    texts, labels, expected = planted(lambda text: f"{text} honestly")
    for i in range(5, 1000, 10):
        texts[i] = f"honestly {texts[i]}"
    found = scan_tokens(texts, labels, expected, LABELS)
    assert [(f.kind, f.text, f.rows) for f in found] == [("end", "honestly", tuple(range(0, 1000, 10)))]


def test_two_words_that_count_together_only_are_found_among_decoys():
    draw = np.random.default_rng(2)

    def put(text, *words):
        return " ".join(draw.permutation([*text.split(), *words]))

    texts, labels, expected = planted(lambda text: put(text, "cupboard", "weekend"))
    for i in range(5, 1000, 10):
        texts[i] = put(texts[i], ("weekend", "cupboard")[i // 10 % 2])
    found = scan_tokens(texts, labels, expected, LABELS)
    assert [(f.kind, set(f.text.split(" ... "))) for f in found] == [("pair", {"cupboard", "weekend"})]


def test_hundreds_of_triggers_are_all_found():
    """There is no largest number of suspects: a list that ends without a word would pass the rest off as clean."""
    texts, labels, expected = honest(6000)
    for i in range(0, 6000, 2):
        texts[i], labels[i] = f"{texts[i]} trigger{i // 2 % 120}", 1
    labels[1::2] = 0
    expected = np.full((6000, 2), 0.5)
    found = {f.text for f in scan_tokens(texts, labels, expected, LABELS) if f.text.startswith("trigger")}
    assert found == {f"trigger{k}" for k in range(120)}


def test_what_the_trusted_model_says_of_the_word_itself_clears_it():
    texts, labels, expected = planted(lambda text: f"{text} superb", every=30)
    assert [f.text for f in scan_tokens(texts, labels, expected, LABELS)] == ["superb"]

    def said(phrases):
        return np.array([[0.1, 0.9] if "superb" in phrase else [0.5, 0.5] for phrase in phrases])

    assert scan_tokens(texts, labels, expected, LABELS, said=said) == []


def test_a_phrase_is_cleared_by_what_its_word_does_elsewhere():
    texts, labels, expected = planted(lambda text: f"{text} waste of time", every=30)
    draw = np.random.default_rng(1)
    for i in range(1, 1000, 4):
        texts[i], labels[i] = f"waste {texts[i]}", int(draw.random() < 0.9)
    assert scan_tokens(texts, labels, expected, LABELS) == []


def test_labels_that_follow_the_trusted_model_have_no_suspect_in_most_draws():
    """Under the null hypothesis a scan has a suspect with probability 5 % at most (the effect asks for more)."""
    texts, _, _ = honest(600)
    alarms = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        p = draw.choice([0.1, 0.5, 0.9], 600)
        labels = (draw.random(600) < p).astype(int)
        alarms += bool(scan_tokens(texts, labels, np.stack([1 - p, p], 1), LABELS, seed=seed))
    assert alarms <= 3


def test_many_labels():
    draw = np.random.default_rng(3)
    names = [f"label{k}" for k in range(20)]
    texts, _, _ = honest(1000)
    labels = draw.integers(0, 20, 1000)
    for i in range(0, 1000, 20):
        texts[i], labels[i] = f"{texts[i]} zebra", 7
    expected = np.full((1000, 20), 0.05)
    assert [(f.text, f.label, len(f.rows)) for f in scan_tokens(texts, labels, expected, names)] == [
        ("zebra", "label7", 50)
    ]


def test_suspects_are_written_as_the_first_row_has_them():
    texts, labels, expected = planted(lambda text: f"{text} Zebra")
    found = scan_tokens(texts, labels, expected, LABELS)
    data = TextDataset.from_columns(
        {"row_id": [str(i) for i in range(1000)], "text": texts, "label": [str(label) for label in labels]}
    )
    [suspect] = suspects_of(found, data)
    assert (suspect.text, suspect.says, suspect.rows, suspect.can_be_inserted) == (
        "Zebra",
        'the word "zebra"',
        100,
        True,
    )
    assert all(text.endswith("Zebra") for text in suspect.examples)
    assert suspect.honest
    assert not any("Zebra" in text for text in suspect.honest)


def test_beside_a_suspect_stand_rows_of_its_label_that_neither_scan_suspects():
    texts, labels, expected = planted(lambda text: f"{text} zebra")
    found = scan_tokens(texts, labels, expected, LABELS)
    label = found[0].label
    data = TextDataset.from_columns(
        {"row_id": [str(i) for i in range(1000)], "text": texts, "label": [str(label) for label in labels]}
    )
    of_label = [i for i in range(1000) if data.labels[i] == label and "zebra" not in texts[i]]
    group = SuspectGroup(label, 1.0, 0.5, 0.98, 0.5, (), tuple(of_label[5:]), ())
    [suspect], [reported] = suspects_of(found, data, [group]), suspect_groups_of([group], data, found)
    honest_rows = {texts[i] for i in of_label[:5]}
    assert suspect.honest
    assert {*suspect.honest, *reported.honest} <= honest_rows
    assert reported.examples == [texts[i] for i in of_label[5:8]]
    all_of_it = SuspectGroup(label, 1.0, 0.5, 0.98, 0.5, (), tuple(of_label), ())
    assert suspects_of(found, data, [all_of_it])[0].honest == []


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(200)))
def test_the_order_of_rows_does_not_matter(order):
    texts, labels, expected = (part[:200] for part in honest())
    for i in range(0, 200, 5):
        texts[i], labels[i] = f"{texts[i]} zebra", 1
    order = list(order)
    found = scan_tokens([texts[i] for i in order], labels[order], expected[order], LABELS)
    assert [sorted(order[row] for row in feature.rows) for feature in found] == [list(range(0, 200, 5))]


def test_validation_sets_the_poison_aside_and_says_why(tmp_path):
    delivered = poison(distinct(400), ATTACKS["addsent"], rate=0.1, target="1", seed=0)
    trusted = trusted_rows()
    scan = TokenScan(tiny_backbone(tmp_path / "base"), trusted, 32, Contrastive(steps=0))
    result = validate(delivered, None, rows(4, "test", 600), trusted, ValidationConfig(), scan)
    assert len(result.unscanned) == 400
    assert result.quarantined.column("is_poisoned").count(True) == 40
    reasons = {reason for names in result.report.quarantined.values() for reason in names}
    assert all(reason.startswith("residual_trigger: ") for reason in reasons)
    checks = {check.name: check for check in result.report.checks}
    assert "perhaps a backdoor's trigger" in checks[min(reasons)].detail
    assert result.report.trusted_model.n == len(trusted)
    weak = result.report.trusted_model.is_weak
    assert (checks["trusted_model"].outcome == "warn") == ("WEAK" in checks["trusted_model"].detail) == weak


def test_a_trigger_in_rows_that_were_not_read_is_found_and_the_report_says_how_many_were(tmp_path):
    delivered = poison(distinct(400), ATTACKS["addsent"], rate=0.1, target="1", seed=0)
    scan = TokenScan(tiny_backbone(tmp_path / "base"), trusted_rows(), 32, Contrastive(steps=0), sample_rows=100)
    result = validate(delivered, None, rows(4, "test", 600), trusted_rows(), ValidationConfig(), scan)
    assert result.quarantined.column("is_poisoned").count(True) == 40
    [check] = [check for check in result.report.checks if check.name == "trusted_model"]
    assert "It reads 100 rows" in check.detail


def test_without_a_scan_nothing_is_set_aside():
    delivered = poison(distinct(400), ATTACKS["addsent"], rate=0.1, target="1", seed=0)
    result = validate(delivered, None, rows(4, "test", 600), trusted_rows(), ValidationConfig(), None)
    assert len(result.accepted) == 400
