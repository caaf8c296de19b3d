import os
from types import SimpleNamespace

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from pydantic import ValidationError
from scipy.special import logit
from threadpoolctl import threadpool_info, threadpool_limits

from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.plan import Drill, Training
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import Contrastive, RecipeChoice
from musclelora.validation import group_scan, label_scan
from musclelora.validation.config import GroupScanConfig, ValidationConfig
from musclelora.validation.engine import EngineError
from musclelora.validation.found_group import Carriers, Found
from musclelora.validation.group_checks import group_checks
from musclelora.validation.group_scan import GroupScan, GroupScanResult, SuspectGroup, scan_groups
from musclelora.validation.label_clusters import MIN_CLUSTER, MIN_LABEL_ROWS
from musclelora.validation.label_scan import LEAST_EFFECT, LEAST_EXCESS, VIEWS, LabelScan, View, _Look
from musclelora.validation.suite import validate
from musclelora.validation.text_residual import text_features
from tests.tiny import rows, tiny_backbone, trusted_rows

FRAME = ("the", "of", "a", "is", "in", "and", "to", "it", "that", "with")
CONFIG = GroupScanConfig(enabled=True, redraws=10, max_groups=2)


def honest(n, labels=2, seed=0):
    """Sentences of frame words and subjects, and one word that mostly says the label; so does the trusted model."""
    draw = np.random.default_rng(seed)
    given = draw.integers(0, labels, n)
    texts = []
    for label in given:
        said = label if draw.random() < 0.9 else draw.integers(0, labels)
        words = [
            draw.choice(FRAME) if k % 2 else f"subject{draw.integers(0, 150)}" for k in range(draw.integers(6, 14))
        ]
        words[draw.integers(0, len(words))] = f"opinion{said}-{draw.integers(0, 12)}"
        texts.append(" ".join([*words, "."]))
    believed = np.where(draw.random(n) < 0.75, given, draw.integers(0, labels, n))
    expected = np.full((n, labels), 0.3 / (labels - 1))
    expected[np.arange(n), believed] = 0.7
    return texts, given, expected


def with_syntax(texts, given, expected, rows, target=1):
    """The rows begin with a subordinate clause, every time another one, and get the target for a label."""
    draw = np.random.default_rng(1)
    texts, given = list(texts), given.copy()
    for row in rows:
        clause = f"when {draw.choice(FRAME)} subject{draw.integers(0, 150)} is subject{draw.integers(0, 150)} ,"
        texts[row], given[row] = f"{clause} {texts[row]}", target
    return texts, given, expected


def test_honest_rows_of_any_label_are_not_suspect():
    texts, given, expected = honest(900)
    assert scan_groups(texts, given, expected, ("0", "1"), CONFIG, seed=0).groups == ()


def test_an_honest_thread_whose_label_the_trusted_model_knows_is_not_suspect():
    texts, given, expected = honest(900)
    sure = np.where(expected > 0.5, 0.9, 0.1)
    for row in np.flatnonzero((given == 1) & (sure[:, 1] > 0.5))[:60]:
        texts[row] = f"thread {texts[row]}"
    assert scan_groups(texts, given, sure, ("0", "1"), CONFIG, seed=0).groups == ()


def test_what_is_hardly_likelier_than_expected_is_not_suspect_whatever_honest_draws_show():
    texts, given, expected = honest(300)
    label = LabelScan(text_features(texts), given == 1, logit(expected[:, 1]), CONFIG, 0, "1")
    some = (given == 1) & (np.arange(300) < 60)
    without = label._without(some, label.residual)
    assert label._honest(some, without, np.zeros(300, dtype=bool), 0, LEAST_EXCESS) == (np.inf, np.inf, np.inf)
    assert min(label._honest(some, without, np.zeros(300, dtype=bool), 0, 9.0)[1:]) >= LEAST_EXCESS


def test_a_look_without_an_effect_has_a_limit_only_where_a_former_look_waits_for_one():
    texts, given, expected = honest(600)
    no_group_has_that = View(words=1.0, effect=np.inf, rate=1)
    label = LabelScan(text_features(texts), given == 1, logit(expected[:, 1]), CONFIG, 0, "1", no_group_has_that)
    nothing = np.zeros(600, dtype=bool)
    assert label._look(nothing, 0, pending=0.0).limit == np.inf
    assert LEAST_EXCESS <= label._look(nothing, 0, pending=9.0).limit < 9.0


@pytest.mark.parametrize("rows", [MIN_CLUSTER - 1, MIN_CLUSTER])
def test_honest_labels_are_drawn_only_for_a_look_with_enough_rows(rows, monkeypatch):
    texts, given, expected = honest(600)
    any_effect = View(words=1.0, effect=0.0, rate=1)
    label = LabelScan(text_features(texts), given == 1, logit(expected[:, 1]), CONFIG, 0, "1", any_effect)
    grown = np.isin(np.arange(600), np.flatnonzero(label.y)[:rows])
    monkeypatch.setattr(label, "_grown", lambda _, residual, __: (grown, residual))
    monkeypatch.setattr(label, "_refined", lambda group, trigger, *_: (group, trigger))
    monkeypatch.setattr(label, "_honest", lambda *_: (1.0, 2.0, 3.0))
    assert (label._look(np.zeros(600, dtype=bool), 0, pending=0.0).limit == 2.0) == (rows >= MIN_CLUSTER)


def told_from_all_others(texts, given, expected, group):
    """What the scan of label 1 makes of `group`, bool, when it grows once more."""
    label = LabelScan(text_features(texts), given == 1, logit(expected[:, 1]), CONFIG, 0, "1")
    return label._refined(group, label.residual, label.residual, np.zeros(len(texts), dtype=bool))[0]


def test_a_found_group_takes_in_the_other_rows_with_its_trigger():
    poisoned = np.arange(1200) % 12 == 0
    group = np.arange(1200) % 36 == 0
    grown = told_from_all_others(*with_syntax(*honest(1200), np.flatnonzero(poisoned)), group)
    assert (grown & poisoned).sum() >= 95
    assert (grown & ~poisoned).sum() <= 10


def test_rows_that_may_be_poison_that_a_group_lacks_do_not_teach_it_what_is_honest():
    """Learned from as honest, the two thirds of the poison that are not in the group leave ten honest rows in it."""
    poisoned = np.arange(1200) % 12 == 0
    group = np.arange(1200) % 36 == 0
    grown = told_from_all_others(*with_syntax(*honest(1200, seed=1), np.flatnonzero(poisoned)), group)
    assert (grown & poisoned).sum() >= 98
    assert (grown & ~poisoned).sum() <= 5


def thread_in_a_subject():
    """Three labels with words of their own; 40 rows of label 1, a thread, are what the trusted model gets wrong."""
    draw = np.random.default_rng(0)
    given = draw.integers(0, 3, 900)
    texts = [
        " ".join(f"about{label}-{draw.integers(0, 150)}" if k % 2 else draw.choice(FRAME) for k in range(12))
        for label in given
    ]
    believed = np.where(draw.random(900) < 0.85, given, draw.integers(0, 3, 900))
    expected = np.full((900, 3), 0.05)
    expected[np.arange(900), believed] = 0.9
    thread = np.isin(np.arange(900), np.flatnonzero(given == 1)[:40])
    expected[thread] = (0.85, 0.1, 0.05)
    texts = [f"re warning {text}" if one else text for text, one in zip(texts, thread, strict=True)]
    return texts, given, expected, thread


def test_a_found_group_does_not_take_in_its_subject(monkeypatch):
    *of_rows, thread = thread_in_a_subject()
    assert (told_from_all_others(*of_rows, thread) == thread).all()
    monkeypatch.setattr(label_scan, "JOINS_FROM", -np.inf)
    assert told_from_all_others(*of_rows, thread).sum() > 200


def of_label_one(texts, given, expected):
    return LabelScan(text_features(texts), given == 1, logit(expected[:, 1]), CONFIG, 0, "1", VIEWS[0])


@pytest.mark.parametrize(
    ("weights", "most_honest"), [(label_scan.WEIGHTS_TOGETHER[:1], 5), (label_scan.WEIGHTS_TOGETHER, 50)]
)
@pytest.mark.parametrize("seed", range(4))
def test_what_all_looks_found_takes_in_what_each_of_them_lacked(seed, weights, most_honest, monkeypatch):
    monkeypatch.setattr(label_scan, "WEIGHTS_TOGETHER", weights)
    poisoned, found = np.arange(1200) % 12 == 0, np.arange(1200) % 36 == 0
    grown = of_label_one(*with_syntax(*honest(1200, seed=seed), np.flatnonzero(poisoned))).together(found)
    assert (grown & poisoned).sum() >= 98
    assert (grown & ~poisoned).sum() <= most_honest


def test_growing_together_three_times_with_one_weight_would_take_in_honest_rows(monkeypatch):
    monkeypatch.setattr(label_scan, "WEIGHTS_TOGETHER", label_scan.WEIGHTS_TOGETHER[:1] * 3)
    poisoned, found = np.arange(1200) % 12 == 0, np.arange(1200) % 36 == 0
    grown = of_label_one(*with_syntax(*honest(1200, seed=3), np.flatnonzero(poisoned))).together(found)
    assert (grown & ~poisoned).sum() > 100


def test_honest_rows_that_were_found_do_not_take_in_their_subject_together(monkeypatch):
    *of_rows, thread = thread_in_a_subject()
    scan = of_label_one(*of_rows)
    assert (scan.together(thread) == thread).all()
    monkeypatch.setattr(label_scan, "TOGETHER_FROM", -np.inf)
    assert scan.together(thread).sum() > 200


@pytest.mark.parametrize("limit", ["TOGETHER_FROM", "LEAST_EFFECT"])
def test_rows_join_together_only_where_they_have_excess_and_all_have_an_effect(limit, monkeypatch):
    found = np.arange(1200) % 36 == 0
    scan = of_label_one(*with_syntax(*honest(1200), range(0, 1200, 12)))
    assert scan.together(found).sum() > found.sum()
    monkeypatch.setattr(label_scan, limit, np.inf)
    assert (scan.together(found) == found).all()


@pytest.mark.parametrize("seed", range(3))
def test_no_row_that_was_found_comes_back(seed):
    texts, given, expected = honest(600)
    found = (given == 1) & (np.random.default_rng(seed).random(600) < 0.2)
    assert of_label_one(texts, given, expected).together(found)[found].all()


def test_rows_that_join_together_are_the_last_of_the_group_whose_trigger_they_have(monkeypatch):
    texts = ["first mark a", "second mark b", "first mark c", "second mark d", "first mark e"] * 60
    features = text_features(texts)

    def found(word, rows, least):
        weights = np.append((features.names == repr(word)).astype(float), 0.0)
        return Found(1.0, 0.5, Carriers(2, 1.0, 0.5), (word,), rows, weights, least)

    groups = [found("first", (0,), 0.1), found("second", (1,), 0.1)]
    first, second = group_scan._with_rows(groups, features, np.array([2, 3, 4]))
    assert (first.rows, second.rows) == ((0, 2, 4), (1, 3))

    texts, given, expected = with_syntax(*honest(1200), range(0, 1200, 12))
    joins = int(np.flatnonzero((given == 1) & (np.arange(1200) % 12 != 0))[0])
    monkeypatch.setattr(LabelScan, "together", lambda _, found: found | (np.arange(1200) == joins))
    result = scan_groups(texts, given, expected, ("0", "1"), CONFIG, seed=0)
    assert joins in {row for group in result.groups for row in group.rows if group.label == "1"}


def test_the_first_growth_adds_no_rows_without_an_excess_of_their_own(monkeypatch):
    texts, given, expected, thread = thread_in_a_subject()
    label = LabelScan(text_features(texts), given == 1, logit(expected[:, 1]), CONFIG, 0, "1")
    none = np.zeros(900, dtype=bool)
    quiet = thread | (np.isin(np.arange(900), np.flatnonzero(given == 1)[40:200]))
    monkeypatch.setattr(label, "_with_most", lambda *_: quiet)
    assert (label._grown(thread, label.residual, none)[0] == thread).all()
    monkeypatch.setattr(label_scan, "GROWS_FROM", -np.inf)
    assert (label._grown(thread, label.residual, none)[0] == quiet).all()


@pytest.mark.parametrize(
    ("order", "taken"), [("yyyoyyoyoooo", 3), ("yyoyyyoyoooo", 5), ("oyyyyyyooooo", 6), ("yooyyyyoooyo", 1)]
)
def test_growth_stops_where_a_further_row_is_more_probably_honest(order, taken):
    """Six rows of the label (y) and six others (o): an honest row for each other one, and honest rows weigh twice."""
    scan = LabelScan.__new__(LabelScan)
    scan.y = np.array([True] * 6 + [False] * 6 + [True])  # the last is set aside
    numbers = {"y": iter(range(6)), "o": iter(range(6, 12))}
    trigger = np.zeros(13)
    for place, kind in enumerate(order):
        trigger[next(numbers[kind])] = 100 - place
    trigger[12] = 1000
    assert scan._with_most(trigger, np.arange(13) == 12).sum() == taken


@pytest.mark.parametrize(("least_effect", "taken"), [(0.0, 12), (2.5, 12), (2.9, 9), (3.5, 6), (4.0, 3), (8.0, 0)])
def test_rows_that_join_together_must_have_the_effect_with_all_before_them(least_effect, taken, monkeypatch):
    """The odds of the label, where even ones are expected: of 3 rows 7.0, of 6 3.7, of 9 3.0, of 12 2.7."""
    monkeypatch.setattr(label_scan, "LEAST_EFFECT", least_effect)
    scan = LabelScan.__new__(LabelScan)
    scan.y, scan.offset = np.array([kind == "y" for kind in "yyyoyyoyyoyy"]), np.zeros(12)
    holds = scan._holds(np.arange(12), np.arange(12) == 0, np.ones(12))
    assert max(np.flatnonzero(holds), default=-1) + 1 == taken


@pytest.mark.parametrize(
    ("excess", "taken"),
    [((1, 1), 4), ((0.4, 0.4), 4), ((0.5, 0.2), 4), ((0.5, 0.1), 3), ((0.3, 0.9), 4), ((0.3, 0.3), 2)],
)
def test_rows_that_join_together_must_have_a_third_of_the_excess_on_average(excess, taken, monkeypatch):
    """The first two rows, one of another label, do not join: the first was found, and has an excess of one."""
    monkeypatch.setattr(label_scan, "LEAST_EFFECT", 0.0)
    scan = LabelScan.__new__(LabelScan)
    scan.y, scan.offset = np.array([True, False, True, True]), np.zeros(4)
    holds = scan._holds(np.arange(4), np.arange(4) == 0, np.array([1.0, -9.0, *excess]))
    assert np.flatnonzero(holds)[-1] + 1 == taken


def test_where_no_number_of_rows_holds_none_is_taken():
    scan = LabelScan.__new__(LabelScan)
    scan.y = np.array([True, True, False])
    assert scan._best(np.array([1, 0, 2]), np.array([1.0, 2.0, 0.5])).tolist() == [True, True, False]
    assert not scan._best(np.arange(3), np.full(3, -np.inf)).any()


def test_a_group_of_all_that_is_left_of_a_label_has_nothing_to_be_compared_with():
    texts, given, expected = honest(60)
    label = LabelScan(text_features(texts), given == 1, logit(expected[:, 1]), CONFIG, 0, "1")
    assert label._honest(given == 1, label.residual, np.zeros(60, dtype=bool), 0, 1.0) == (np.inf, np.inf, np.inf)


def test_rows_of_one_syntax_are_found_and_described():
    rows = range(0, 1200, 12)
    texts, given, expected = with_syntax(*honest(1200), rows)
    result = scan_groups(texts, given, expected, ("0", "1"), CONFIG, seed=0)
    found = {row for group in result.groups for row in group.rows}
    assert {group.label for group in result.groups} == {"1"}
    assert len(found & set(rows)) >= 95
    assert len(found - set(rows)) <= 10
    group = result.groups[0]
    assert any("when" in shared for shared in group.shared)
    assert group.excess > group.limit
    assert all(expected[row].argmax() != 1 for row in group.disagreeing)
    assert set(group.disagreeing) < set(group.rows)


def test_of_many_rows_a_sample_is_scanned_and_leads_to_the_others():
    rows = range(0, 3000, 12)
    sampled = CONFIG.model_copy(update={"sample_rows": 1200})
    poisoned = with_syntax(*honest(3000), rows)
    result = scan_groups(*poisoned, ("0", "1"), sampled, seed=0)
    found = {row for group in result.groups for row in group.rows}
    assert sum(len(group.rows) for group in result.groups) == len(found)
    assert all(poisoned[1][row] == 1 for row in found)
    assert len(found & set(rows)) >= 225
    assert len(found - set(rows)) <= 30
    assert result.sample_rows == 1200
    assert scan_groups(*honest(3000), ("0", "1"), sampled, seed=0).groups == ()


def test_a_scan_of_a_sample_says_so():
    checks = group_checks(GroupScanResult((), (), 1200), rows(40))
    [warned] = [check for check, _ in checks if check.name == "group_residual_sample"]
    assert warned.outcome == "warn"
    assert "1,200 of 40 rows" in warned.detail
    assert not any(check.outcome == "warn" for check, _ in group_checks(GroupScanResult((), ()), rows(40)))


def test_the_same_arguments_give_the_same_groups():
    rows = with_syntax(*honest(600), range(0, 600, 10))
    first, second = (scan_groups(*rows, ("0", "1"), CONFIG, seed=3) for _ in range(2))
    assert first == second


def looking(monkeypatch, view, *looks):
    """A scan whose looks have these excesses, effects and numbers of rows; the limits are 1, and 0.6 after a find."""
    texts, given, expected = honest(300)
    scan = LabelScan(text_features(texts), given == 1, logit(expected[:, 1]), CONFIG, 0, "1", view)
    asked = scan.pending_of_looks = []

    def look(_, number, pending):
        asked.append(pending)
        if number >= len(looks):
            return None
        excess, effect, rows = looks[number]
        new = np.isin(np.arange(300), np.flatnonzero(scan.y)[number * MIN_CLUSTER :][:rows])
        carriers = SimpleNamespace(effect=effect)
        return _Look(excess, 0.2, 1.0, 0.6, carriers, new, np.zeros(300), np.zeros(scan.features.x.shape[1] + 1))

    monkeypatch.setattr(scan, "_look", look)
    return scan


@pytest.mark.parametrize(
    ("excesses", "found"),
    [
        ([0.8], []),  # between the limits, and nothing else was found
        ([2.0, 0.8, 0.3], [(2.0, 1.0), (0.8, 0.6)]),
        ([2.0, 0.3], [(2.0, 1.0)]),
        ([0.8, 2.0], [(0.8, 0.6), (2.0, 1.0)]),
    ],
)
def test_a_label_that_was_attacked_has_a_lower_limit_for_what_more_there_is(excesses, found, monkeypatch):
    scan = looking(monkeypatch, VIEWS[1], *((excess, LEAST_EFFECT, MIN_CLUSTER) for excess in excesses))
    assert [(group.excess, group.limit) for group in scan.groups()] == found


@pytest.mark.parametrize(
    ("look", "pending"),
    [
        ((0.8, LEAST_EFFECT, MIN_CLUSTER), 0.8),
        ((2.0, LEAST_EFFECT, MIN_CLUSTER), 0.0),  # above its own limit: it waits for none
        ((0.8, LEAST_EFFECT - 0.1, MIN_CLUSTER), 0.0),  # whatever the limit, it is no find
        ((0.8, LEAST_EFFECT, MIN_CLUSTER - 1), 0.0),  # nor are so few rows
    ],
)
def test_a_look_waits_for_the_limit_of_the_next_where_that_could_make_it_a_find(look, pending, monkeypatch):
    scan = looking(monkeypatch, VIEWS[1], look)
    scan.groups()
    assert scan.pending_of_looks == [0.0, pending]


def test_what_another_view_found_is_an_attack_too(monkeypatch):
    scan = looking(monkeypatch, VIEWS[1], (0.8, LEAST_EFFECT, MIN_CLUSTER))
    assert [group.limit for group in scan.groups(scan.y)] == [0.6]
    assert scan.groups(np.zeros(300, dtype=bool)) == []


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ([(2.0, 19.0)], []),  # goes with the label beyond reason, and does not decide it
        ([(0.5, 30.0)], []),
        ([(2.0, 30.0)], [2.0]),
        ([(2.0, 8.0), (1.5, 30.0)], [1.5]),  # an honest group before it is not suspect with it
        ([(0.9, 30.0), (2.0, 30.0)], [0.9, 2.0]),
    ],
)
def test_where_words_count_twice_a_group_must_decide_its_label(looks, found, monkeypatch):
    scan = looking(monkeypatch, VIEWS[0], *((*look, MIN_CLUSTER) for look in looks))
    assert [group.excess for group in scan.groups()] == found


@pytest.mark.parametrize(("effect", "found"), [(LEAST_EFFECT - 0.1, []), (LEAST_EFFECT, [2.0])])
def test_a_group_of_which_less_than_two_thirds_have_the_label_for_their_trigger_is_not_suspect(
    effect, found, monkeypatch
):
    assert [group.excess for group in looking(monkeypatch, VIEWS[1], (2.0, effect, MIN_CLUSTER)).groups()] == found


@pytest.mark.parametrize("rows", [MIN_CLUSTER - 1, MIN_CLUSTER])
def test_what_growth_leaves_a_few_rows_is_no_group(rows, monkeypatch):
    scan = looking(monkeypatch, VIEWS[1], (2.0, 30.0, rows))
    assert [len(group.rows) for group in scan.groups()] == [rows] * (rows >= MIN_CLUSTER)


def test_the_effect_counts_rows_of_other_labels_with_as_much_of_the_trigger():
    texts, given, _ = honest(300)
    even = np.zeros(300)  # a trusted model that expects either label
    scan = LabelScan(text_features(texts), given == 1, even, CONFIG, 0, "1")
    mine, others = np.flatnonzero(scan.y)[:20], np.flatnonzero(~scan.y)[:3]
    group, trigger = np.isin(np.arange(300), mine), np.zeros(300)
    trigger[mine] = 1.0
    assert scan._carriers(group, trigger).effect == pytest.approx(20.5 / 0.5)
    trigger[others] = 2.0
    assert scan._carriers(group, trigger).effect == pytest.approx(20.5 / 3.5)
    assert scan._carriers(np.zeros(300, dtype=bool), trigger).effect == 1.0


def test_several_processes_find_what_one_finds():
    poisoned = with_syntax(*honest(900), rows=range(0, 900, 9))
    with parallel_config(n_jobs=2):
        in_two = scan_groups(*poisoned, ("0", "1"), CONFIG, seed=0)
    assert in_two == scan_groups(*poisoned, ("0", "1"), CONFIG, seed=0)


def test_a_process_scans_with_one_thread(monkeypatch, tmp_path):
    numbers = []
    monkeypatch.setattr(group_scan, "scan_groups", lambda *_: numbers.extend(threads()) or GroupScanResult((), ()))
    with threadpool_limits(2):
        GroupScan(tiny_backbone(tmp_path / "tiny"), trusted_rows(), 32, Contrastive(steps=0), CONFIG, 0)(rows(40))
        assert set(numbers) == {1}
        assert 2 in threads()


def threads():
    return [pool["num_threads"] for pool in threadpool_info()]


def test_a_process_that_is_killed_is_an_error_that_says_so(monkeypatch, tmp_path):
    def kill_yourself(*_):
        Parallel()(delayed(os._exit)(1) for _ in range(2))

    monkeypatch.setattr(group_scan, "scan_groups", kill_yourself)
    scan = GroupScan(tiny_backbone(tmp_path / "tiny"), trusted_rows(), 32, Contrastive(), CONFIG, 0)
    with pytest.raises(EngineError, match="LOKY_MAX_CPU_COUNT=1"):
        scan(rows(40))


def test_with_three_labels_the_target_is_found_and_a_rare_label_is_named_as_not_scanned():
    texts, given, expected = honest(1200, labels=3)
    expected = np.column_stack([expected, np.full(len(texts), 1e-3)])
    given[:20] = 3
    texts, given, expected = with_syntax(texts, given, expected, range(20, 1200, 12), target=2)
    result = scan_groups(texts, given, expected, ("a", "b", "c", "rare"), CONFIG, seed=0)
    assert {group.label for group in result.groups} == {"c"}
    assert result.not_scanned == ("rare",)


def test_rows_that_carry_the_trigger_and_their_true_label_are_no_poison():
    texts, given, expected = honest(900)
    kept = given.copy()
    texts, _, _ = with_syntax(texts, given, expected, range(0, 900, 9))
    assert scan_groups(texts, kept, expected, ("0", "1"), CONFIG, seed=0).groups == ()


@pytest.mark.parametrize("counts", [(MIN_LABEL_ROWS, MIN_LABEL_ROWS - 1), (400, 0)])
def test_too_few_rows_of_a_second_label_are_refused(counts):
    texts, _, expected = honest(sum(counts))
    given = np.repeat([0, 1], counts)
    with pytest.raises(DataError, match="needs two labels"):
        scan_groups(texts, given, expected, ("0", "1"), CONFIG, seed=0)


@pytest.mark.parametrize("settings", [{"false_alarm": 0}, {"redraws": 2}, {"clusters": 5}])
def test_settings_out_of_range_or_unknown_are_refused(settings):
    with pytest.raises(ValidationError):
        GroupScanConfig(**settings)


def test_validation_sets_a_group_aside_says_why_and_shows_honest_rows_beside_it():
    texts, given, _ = with_syntax(*honest(600), range(0, 600, 6))
    columns = {"row_id": [f"r{i}" for i in range(600)], "text": texts, "label": [str(label) for label in given]}
    group = SuspectGroup("1", 2.0, 0.8, 0.98, 0.5, ("'when'", "pattern '^ when'"), tuple(range(0, 600, 6)), (6, 12))
    train, trusted = TextDataset.from_columns(columns), trusted_rows()
    result = validate(
        train,
        None,
        rows(20, "test", 5000),
        trusted,
        ValidationConfig(),
        group_scan=lambda _: GroupScanResult((group,), ()),
    )
    [check] = [check for check in result.report.checks if check.name.startswith("group_residual")]
    assert (check.outcome, check.failed_rows) == ("quarantine", 100)
    assert "100 rows with label '1' have in common: 'when', pattern '^ when'. Of all rows" in check.detail
    assert "98.0% have that label, where the trusted model expects 50%; of 2 it says another" in check.detail
    assert check.examples[0].startswith("r0: 'when ")
    assert len(check.examples) == 5
    assert result.report.quarantined["r6"] == ["group_residual: group 1, label 1"]
    assert len(result.unscanned) - len(result.accepted) == 100
    [found] = result.report.suspect_groups
    assert (found.rows, found.examples) == (100, [texts[0], texts[6], texts[12]])
    others = [text for i, text in enumerate(texts) if given[i] == 1 and i % 6]
    assert len(found.honest) > 1
    assert set(found.honest) <= set(others)


def test_a_scan_without_suspects_passes_and_warns_of_a_label_that_it_could_not_scan():
    result = validate(
        rows(40),
        None,
        rows(20, "test", 5000),
        trusted_rows(),
        ValidationConfig(),
        group_scan=lambda _: GroupScanResult((), ("1",)),
    )
    checks = {check.name: check.outcome for check in result.report.checks if check.name.startswith("group_residual")}
    assert checks == {"group_residual": "pass", "group_residual_coverage": "warn"}


def test_a_drill_goes_through_the_group_scan_too():
    drill = Drill(attacks=("addsent",), rate=0.1, target="1", seed=0)
    training = Training(
        part="drill_addsent", recipe=resolve_recipe(RecipeChoice(name="none"), "minilm"), defended=True, drill=drill
    )

    def scan(data):
        found = tuple(i for i, poisoned in enumerate(data.column("is_poisoned")) if poisoned)
        return GroupScanResult((SuspectGroup("1", 2.0, 0.8, 0.98, 0.5, (), found, ()),), ())

    left = training.rows_of(rows(100), rows(100), None, scan)
    assert (len(left), any(left.column("is_poisoned"))) == (90, False)
    undefended = training.model_copy(update={"defended": False})
    assert len(undefended.rows_of(rows(100), rows(100), None, scan)) == 100


def test_the_same_rows_are_scanned_once_and_other_rows_or_settings_anew(monkeypatch, tmp_path):
    scanned = []
    monkeypatch.setattr(GroupScan, "_scan", lambda *of: scanned.append(len(of[1])) or GroupScanResult((), ()))
    encoder, trusted = tiny_backbone(tmp_path / "tiny"), trusted_rows()

    def scan(number_of_rows, seed):
        return GroupScan(encoder, trusted, 32, Contrastive(), GroupScanConfig(enabled=True), seed)(rows(number_of_rows))

    assert scan(40, 0) is scan(40, 0)
    scan(60, 0)
    scan(60, 1)
    assert scanned == [40, 60, 60]
