"""The pages: hostile text stays text, nothing is loaded from a network, the verdict comes first."""

import re
from html.parser import HTMLParser

import pytest

from materializers import pages
from musclelora.evaluation.report import AuditedModel
from musclelora.validation.report import SuspectGroup
from tests.materializers import examples

PAGES = {
    "text_dataset": lambda: pages.text_dataset_page(examples.text_dataset(), f"Rows {examples.HOSTILE}"),
    "trusted_set": lambda: pages.trusted_set_page(examples.trusted_set(owner=examples.HOSTILE)),
    "validation": lambda: pages.validation_page(examples.validation_report()),
    "training": lambda: pages.training_page(examples.training_record()),
    "robustness": lambda: pages.robustness_page(examples.robustness_report(), examples.gate_decision()),
    "robustness_alone": lambda: pages.robustness_page(examples.robustness_report(), None),
    "decision": lambda: pages.decision_page(examples.gate_decision("inconclusive")),
    "registered": lambda: pages.registered_page(examples.registered_version()),
    "vouching": lambda: pages.facts_page("Who vouches", examples.vouching()),
    "champion": lambda: pages.facts_page("The champion", examples.champion_result()),
    "evidence_only": lambda: pages.registered_page(examples.registered_version(())),
}
VOID = {"meta", "br"}


class Outline(HTMLParser):
    """Collects tags and what they would load, and fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loads += [str(value) for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Outline:
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    return outline


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_one_well_nested_file_that_runs_and_loads_nothing(name: str) -> None:
    html = PAGES[name]()
    outline = read(html)
    assert outline.loads == []
    assert not {"script", "link", "iframe", "img", "object"} & set(outline.seen)
    assert "url(" not in html
    assert "@import" not in html
    assert outline.seen.count("h1") == 1


@pytest.mark.parametrize("name", ["text_dataset", "trusted_set", "validation", "robustness", "vouching", "champion"])
def test_hostile_rows_are_shown_as_text(name: str) -> None:
    html = PAGES[name]()
    assert examples.HOSTILE not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_unseen_characters_are_spelled_out() -> None:
    html = PAGES["text_dataset"]()
    assert "‹U+200B›" in html
    assert not re.search("[\u200b\u202e]", html)


@pytest.mark.parametrize(
    ("verdict", "words"), [("accepted", "Accepted"), ("refused", "Refused"), ("inconclusive", "Inconclusive")]
)
def test_the_robustness_page_opens_with_the_verdict_and_its_reasons(verdict: str, words: str) -> None:
    decision = examples.gate_decision(verdict)
    html = pages.robustness_page(examples.robustness_report(), decision)
    opening = html[html.index("<h1>") : html.index("The models side by side")]
    assert words in opening
    assert all(reason in opening for reason in decision.reasons)


def test_the_robustness_page_shows_every_number_of_an_attack() -> None:
    report = examples.robustness_report()
    html = pages.robustness_page(report, None)
    result = report.candidate.attacks["badnets"]
    for rate in (result.asr.value, result.asr.upper95, result.floor.value, result.untriggered.value):
        assert f"{100 * rate:.1f} %" in html
    assert report.test_sha256 in html
    assert "<ins>cf</ins>" in html


def test_the_robustness_page_shows_what_the_candidate_calls_the_rows_of_suspect_groups() -> None:
    report = examples.robustness_report()
    assert "Suspect groups" not in pages.robustness_page(report, None)
    html = pages.robustness_page(report.model_copy(update={"suspect_groups": [examples.group_result()]}), None)
    assert "Suspect groups" in html
    assert "group 1, label positive" in html
    assert "12.5 %" in html


def test_the_validation_page_shows_a_suspect_group_beside_other_rows_of_its_label() -> None:
    report = examples.validation_report()
    assert "What stands out" not in pages.validation_page(report)
    group = SuspectGroup(
        check="group_residual: group 1, label positive",
        label="positive",
        excess=0.68,
        limit=0.32,
        purity=0.98,
        expected=0.55,
        shared=["'^ when'"],
        rows=137,
        disagreeing=70,
        examples=["when you see it , a bore ."],
        honest=["a delight ."],
    )
    html = pages.validation_page(report.model_copy(update={"suspect_groups": [group]}))
    for said in (
        "What stands out",
        "137 rows",
        "when you see it",
        "a delight",
        "98.0 % have this label, where 55.0 % was expected",
        "0.68",
        "0.32 at most",
    ):
        assert said in html


def test_a_report_without_attacks_says_that_it_proves_nothing() -> None:
    report = examples.robustness_report()
    bare = report.model_copy(
        update={"drills": {}, "comparisons": {}, "candidate": report.candidate.model_copy(update={"attacks": {}})}
    )
    assert "nothing here says that it carries no backdoor" in pages.robustness_page(bare, None)


def test_a_measurement_that_is_no_number_is_said_to_be_none() -> None:
    report = examples.robustness_report()
    broken = report.candidate.cacc.model_copy(update={"value": float("nan")})
    candidate = report.candidate.model_copy(update={"cacc": broken})
    html = pages.robustness_page(report.model_copy(update={"candidate": candidate}), None)
    assert "not a number" in html
    assert "nan%" not in html.replace(" ", "")


def test_the_decision_page_shows_rules_limits_and_what_to_do() -> None:
    decision = examples.gate_decision("refused")
    html = pages.decision_page(decision)
    for rule in decision.rules:
        assert rule.rule in html
        assert rule.reason in html
    assert decision.policy_sha256 in html


def test_the_registered_page_serves_the_alias_and_hides_the_password() -> None:
    html = PAGES["registered"]()
    assert "mlflow models serve -m models:/review-sentiment@champion --env-manager local" in html
    assert "hunter2" not in html
    assert "mlflow models serve" not in PAGES["evidence_only"]()


def test_a_stopped_delivery_is_said_first() -> None:
    report = examples.validation_report()
    stop = report.checks[0].model_copy(update={"outcome": "stop", "failed_rows": 3})
    html = pages.validation_page(report.model_copy(update={"checks": [*report.checks, stop]}))
    assert html.index("do not train on this delivery") < html.index("Checks</h2>")


def test_pages_of_empty_artifacts_are_drawn() -> None:
    record = examples.training_record().model_copy(update={"curve": []})
    assert "Recipe" in pages.training_page(record)


def test_training_page_warns_of_raw_gradients():
    record = examples.training_record()
    assert "raw gradients took 10%" in pages.training_page(record)
    aligned = [epoch.model_copy(update={"raw": 0.0}) for epoch in record.curve]
    assert "raw gradients took" not in pages.training_page(record.model_copy(update={"curve": aligned}))
    assert "First 0 rows" in pages.text_dataset_page(examples.text_dataset(0), "None")


def audited_report():
    """A model that somebody else trained, beside a floor."""
    report = examples.robustness_report()
    about = AuditedModel(name="theirs", sha256="a" * 64, floor="ours", floor_sha256="b" * 64)
    unknown = {"recipe": None, "train_rows": None, "trainable_parameters": None, "train_seconds": None}
    floor = report.candidate.model_copy(update=unknown | {"role": "floor"})
    return report.model_copy(
        update={
            "audited": about,
            "candidate": report.candidate.model_copy(update=unknown),
            "comparisons": {"floor": floor},
            "drills": {},
        }
    )


def test_the_page_of_an_audit_calls_the_model_by_its_name_and_says_what_is_not_known():
    html = pages.robustness_page(audited_report(), examples.gate_decision("refused"))
    read(html)
    opening = html[html.index("<h1>") : html.index("The models side by side")]
    assert "Unsafe: a trigger works on this model" in opening
    assert "theirs" in opening
    assert "nothing is known of how it was trained" in opening
    assert "Audited model" in html
    assert ">Candidate<" not in html
    assert "Drills" not in html
    assert "a" * 64 in html


def test_what_a_backdoor_is_comes_before_the_rules():
    html = pages.robustness_page(audited_report(), examples.gate_decision("refused"))
    places = [html.index(words) for words in ("Unsafe:", "A backdoor is a hidden rule", "Why, rule by rule")]
    assert places == sorted(places)


def test_an_audit_that_fails_on_accuracy_alone_is_not_called_backdoored():
    decision = examples.gate_decision("refused")
    rules = [rule.model_copy(update={"attack": None, "evidence": None}) for rule in decision.rules]
    html = pages.robustness_page(audited_report(), decision.model_copy(update={"rules": rules}))
    assert "Not good enough: this model falls short of the policy" in html
    assert "Unsafe: a trigger works" not in html
