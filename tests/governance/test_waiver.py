"""Waivers: one rule, one bound, one model, one day, one person's key; anything else leaves the gate as it is."""

import base64
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from musclelora.errors import ConfigError
from musclelora.governance.decision import GateDecision, decide
from musclelora.governance.policy import Policy
from musclelora.governance.waiver import (
    Waiver,
    WaiverError,
    check_waivers,
    is_signed,
    public_key,
    sign,
    waiver_tags,
)
from tests.governance.reports import a_report, an_attack

ANN = "ann@example.com"
# max_asr 0.32 <= 0.40; over its floor: 0.32 - 0.06 = 0.26 > 0.10, refused
REFUSED = a_report(drills={"badnets": an_attack(asr=0.30)})
BEFORE, AFTER = datetime(2026, 12, 31, 23, tzinfo=timezone.utc), datetime(2027, 1, 1, tzinfo=timezone.utc)


def public_text(key: Any) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(serialization.Encoding.DER, spki)).decode()


def write_key(path: Path, key: Any) -> Path:
    nothing = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, nothing))
    return path


@pytest.fixture
def ann(tmp_path: Path) -> tuple[Path, Policy]:
    """Ann's private key, and the default policy that knows her public one."""
    key = ed25519.Ed25519PrivateKey.generate()
    return write_key(tmp_path / "ann.pem", key), Policy(waiver_keys={ANN: public_text(key)})


def a_waiver(key: Path | None, **fields: Any) -> Waiver:
    given: dict[str, Any] = {
        "model": "reviews",
        "rule": "max_asr_over_floor",
        "evidence": "drill",
        "attack": "badnets",
        "value": 0.26,
        "person": ANN,
        "reason": "filtered <b>before</b> the model",
        "expires": date(2026, 12, 31),
    }
    waiver = Waiver(**{**given, **fields})
    return waiver if key is None else waiver.model_copy(update={"signature": sign(waiver, key)})


def test_a_signed_waiver_accepts_one_refused_rule_and_is_on_record(ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    waiver = a_waiver(key)

    decision = decide(REFUSED, policy, [waiver])

    assert decide(REFUSED, policy).decision == "refused"
    assert (decision.decision, decision.reasons, decision.waivers) == ("accepted", [], (waiver,))
    [waived] = [rule for rule in decision.rules if rule.waiver]
    assert (waived.rule, waived.verdict) == ("max_asr_over_floor", "refused")
    assert "up to 0.26, waived by ann@example.com until 2026-12-31" in str(waived.waiver)
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision


def test_a_waiver_that_no_rule_needs_is_not_on_record(ann: tuple[Path, Policy]) -> None:
    key, policy = ann

    assert decide(a_report(), policy, [a_waiver(key)]).waivers == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"value": 0.2599},
        {"attack": "addsent"},
        {"attack": "zzz"},
        {"attack": None, "evidence": None},
        {"evidence": "candidate"},
        {"rule": "max_asr"},
        {"person": "eve@example.com"},
    ],
)
def test_a_waiver_of_something_else_changes_nothing(ann: tuple[Path, Policy], fields: dict[str, Any]) -> None:
    key, policy = ann

    assert decide(REFUSED, policy, [a_waiver(key, **fields)]) == decide(REFUSED, policy)


@pytest.mark.parametrize(
    ("change", "value"),
    [("signature", None), ("signature", "AAAA"), ("signature", "no base64"), ("reason", "another"), ("value", 0.9)],
)
def test_a_waiver_changed_after_it_was_signed_changes_nothing(
    ann: tuple[Path, Policy], change: str, value: Any
) -> None:
    key, policy = ann

    assert decide(REFUSED, policy, [a_waiver(key).model_copy(update={change: value})]).decision == "refused"


def test_another_persons_key_does_not_sign_for_ann(ann: tuple[Path, Policy], tmp_path: Path) -> None:
    eve = write_key(tmp_path / "eve.pem", ed25519.Ed25519PrivateKey.generate())

    assert decide(REFUSED, ann[1], [a_waiver(eve)]).decision == "refused"
    assert decide(REFUSED, Policy(), [a_waiver(ann[0])]).decision == "refused"


def test_accuracy_is_waived_downwards(ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    report = a_report(cacc=0.70, undefended_cacc=0.72)  # its lower bound, 0.68, is under min_cacc 0.70
    fields: dict[str, Any] = {"rule": "min_cacc", "evidence": None, "attack": None}

    assert decide(report, policy, [a_waiver(key, value=0.68, **fields)]).decision == "accepted"
    assert decide(report, policy, [a_waiver(key, value=0.69, **fields)]).decision == "refused"


def test_missing_evidence_is_not_waived(ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    no_floor = a_report(drills={"badnets": an_attack(asr=0.30, floor=None)})

    assert decide(no_floor, policy, [a_waiver(key, value=1.0)]).decision == "inconclusive"
    with pytest.raises(ValueError, match="max_asr"):
        a_waiver(key, rule="min_triggered_rows")


def test_other_refused_rules_still_refuse(ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    worse = a_report(drills={"badnets": an_attack(asr=0.30)}, cacc=0.5)

    decision = decide(worse, policy, [a_waiver(key)])

    assert decision.decision == "refused"
    assert len(decision.reasons) == 2


@pytest.mark.parametrize(
    ("fields", "now", "message"),
    [
        ({}, AFTER, "expired on 2026-12-31"),
        ({"model": "other"}, BEFORE, "is for the model 'other'"),
        ({"person": "eve@example.com"}, BEFORE, "not signed"),
    ],
)
def test_a_waiver_that_does_not_count_is_told(
    ann: tuple[Path, Policy], fields: dict[str, Any], now: datetime, message: str
) -> None:
    key, policy = ann
    check_waivers([a_waiver(key)], policy.waiver_keys, "reviews", BEFORE)

    with pytest.raises(WaiverError, match=message):
        check_waivers([a_waiver(key, **fields)], policy.waiver_keys, "reviews", now)


def test_a_waiver_covers_a_bound_that_is_beyond_it_by_the_rounding_alone(ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    only = {"max_asr": None, "max_asr_over_floor": None, "max_cacc_drop": None}
    lowest = a_report().candidate.cacc.model_copy(update={"value": 0.0, "lower95": 0.0})
    report = a_report().model_copy(update={"candidate": a_report().candidate.model_copy(update={"cacc": lowest})})
    fields: dict[str, Any] = {"rule": "min_cacc", "evidence": None, "attack": None}

    assert decide(report, policy.model_copy(update=only), [a_waiver(key, value=1e-9, **fields)]).decision == "accepted"
    assert decide(report, policy.model_copy(update=only), [a_waiver(key, value=2e-9, **fields)]).decision == "refused"


def test_a_signature_or_a_key_with_anything_beside_it_is_none(ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    signed = a_waiver(key)
    beside = signed.model_copy(update={"signature": f"!{signed.signature}"})

    assert is_signed(signed, policy.waiver_keys)
    assert not is_signed(beside, policy.waiver_keys)
    with pytest.raises(ValueError, match=r"base64|Only"):
        public_key(f"!{policy.waiver_keys[ANN]}")


def test_what_is_signed_stays_what_it_was() -> None:
    """Ed25519 signs these very bytes: another spelling would void every waiver that exists."""
    assert a_waiver(None, reason="für Ann").signed_bytes.decode() == (
        '{"attack":"badnets","evidence":"drill","expires":"2026-12-31","model":"reviews",'
        '"person":"ann@example.com","reason":"für Ann","rule":"max_asr_over_floor","value":0.26}'
    )


@pytest.mark.parametrize("value", [-1.0, -0.5, 1.0])
def test_a_value_is_a_rate_or_a_difference_of_rates(value: float) -> None:
    assert a_waiver(None, value=value, person="A", reason="B").value == value
    with pytest.raises(ValueError, match="value"):
        a_waiver(None, value=1.01 if value > 0 else -1.01)


@pytest.mark.parametrize("field", ["person", "reason"])
def test_nobody_waives_for_no_reason(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        a_waiver(None, **{field: ""})


def test_a_waiver_counts_until_the_end_of_its_last_day(ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    early = datetime(2026, 1, 1, tzinfo=timezone.utc)

    for now in (early, BEFORE):
        check_waivers([a_waiver(key)], policy.waiver_keys, "reviews", now)
    for model in ("another", "zzz"):
        with pytest.raises(WaiverError, match="is for the model 'reviews'"):
            check_waivers([a_waiver(key)], policy.waiver_keys, model, early)


def test_tags_tell_each_waiver_in_words() -> None:
    accuracy = a_waiver(None, rule="min_cacc", evidence=None, attack=None, value=0.6, reason="a first\nversion")

    assert waiver_tags([a_waiver(None), accuracy]) == {
        "waiver.1": "max_asr_over_floor (drill, badnets) up to 0.26, waived by ann@example.com until 2026-12-31: "
        "filtered <b>before</b> the model",
        "waiver.2": "min_cacc down to 0.6, waived by ann@example.com until 2026-12-31: a first version",
    }


def test_a_key_file_that_cannot_sign_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no key")
    locked = serialization.BestAvailableEncryption(b"pw")
    key = ed25519.Ed25519PrivateKey.generate()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "locked.pem").write_bytes(key.private_bytes(pem, pkcs8, locked))

    for name, kind in [("none.pem", "FileNotFoundError"), ("text.pem", "ValueError"), ("locked.pem", "TypeError")]:
        with pytest.raises(ConfigError, match=f"cannot be read as a private key without a password: {kind}"):
            sign(a_waiver(None), tmp_path / name)
