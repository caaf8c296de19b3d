"""Waivers in files, on cards and on registered versions."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import x25519

from materializers import pages
from musclelora.config_file import load_config
from musclelora.errors import ConfigError
from musclelora.governance import promotion
from musclelora.governance.decision import decide
from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.manifest import VerificationError
from musclelora.governance.model_card import model_card
from musclelora.governance.policy import Policy
from musclelora.governance.promotion import promote
from musclelora.governance.tracking import connect
from musclelora.governance.verification import verify_version
from musclelora.governance.waiver import WaiverError
from pipelines.cli import main
from tests.governance.conftest import a_record, a_version, aliases
from tests.governance.reports import a_report, a_validation
from tests.governance.test_waiver import AFTER, ANN, BEFORE, REFUSED, a_waiver, ann, public_text, write_key

__all__ = ["ann"]  # a fixture

# Not generated: its text is part of a test's name, which must be the same in every worker.
OF_ANOTHER_KIND = x25519.X25519PrivateKey.from_private_bytes(bytes(range(32)))


def test_card_and_pages_show_a_waiver_and_escape_it(ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    decision = decide(REFUSED, policy, [a_waiver(key)])

    card = model_card(a_record(), REFUSED, decision, a_validation(), "reviews")

    assert "Waived: max\\_asr\\_over\\_floor (drill, badnets) up to 0.26" in card
    assert "<b>" not in card
    for page in (pages.decision_page(decision), pages.robustness_page(REFUSED, decision)):
        assert "filtered &lt;b&gt;before&lt;/b&gt; the model" in page
        assert "waived by ann@example.com until 2026-12-31" in page


class Clock(datetime):
    """A clock that can be set back."""

    shown = BEFORE

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.shown.astimezone(tz)


def test_a_waived_version_is_promoted_until_the_waiver_expires_even_if_the_clock_is_set_back(
    store: str, tmp_path: Path, ann: tuple[Path, Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, policy = ann
    decision = decide(REFUSED, policy, [a_waiver(key)])
    waived = a_version(store, "reviews", REFUSED, tmp_path / "waived", decision)
    clean = a_version(store, "reviews", a_report(), tmp_path / "clean")
    assert connect(store).get_model_version("reviews", waived).tags["waiver.1"] == str(decision.waivers[0])
    monkeypatch.setattr(promotion, "datetime", Clock)
    monkeypatch.setattr("musclelora.governance.ledger_store.datetime", Clock)

    promote("reviews", waived, store)
    assert aliases(store)["champion"] == waived
    Clock.shown = AFTER
    promote("reviews", clean, store)  # a line of the ledger that says how late it is
    assert [entry.time for entry in LedgerStore(store, "reviews").read()][-1].startswith("2027-01-01")
    Clock.shown = BEFORE

    with pytest.raises(WaiverError, match="expired"):
        promote("reviews", waived, store)
    assert aliases(store)["champion"] == clean


def test_a_waivers_tag_that_was_removed_is_told(store: str, tmp_path: Path, ann: tuple[Path, Policy]) -> None:
    key, policy = ann
    decision = decide(REFUSED, policy, [a_waiver(key)])
    version = a_version(store, "reviews", REFUSED, tmp_path / "waived", decision)
    connect(store).delete_model_version_tag("reviews", version, "waiver.1")

    with pytest.raises(VerificationError, match=r"tags waiver\.1"):
        verify_version("reviews", version, store)


UNSIGNED = """# until the filter is live
model: reviews
rule: max_asr
evidence: drill
attack: badnets
value: 0.5
person: ann@example.com
reason: until the filter is live
expires: 2999-12-31"""


def run_config(folder: Path, policy: Policy, name: str = "reviews") -> Path:
    (folder / "run.yaml").write_text(
        "data: {train: a.csv, test: b.csv, trusted: {path: c.csv, owner: ann}}\n"
        f"registry: {{name: {name}}}\nwaivers: [waiver.yaml]\n"
        f"gate: {{waiver_keys: {{{ANN}: '{policy.waiver_keys[ANN]}'}}}}\n",
        encoding="utf-8",
    )
    return folder / "run.yaml"


def test_a_file_is_signed_by_the_command_and_read_by_the_config(ann: tuple[Path, Policy], tmp_path: Path) -> None:
    key, policy = ann
    file = tmp_path / "waiver.yaml"
    file.write_text(UNSIGNED, encoding="utf-8")
    with pytest.raises(WaiverError, match="not signed"):
        load_config(run_config(tmp_path, policy))

    signed = CliRunner().invoke(main, ["sign-waiver", str(file), "--key", str(key)])

    assert (signed.exit_code, signed.output) == (0, f"{file} is signed by ann@example.com.\n")
    assert file.read_text(encoding="utf-8").startswith(f"{UNSIGNED}\nsignature: ")
    [waiver] = load_config(run_config(tmp_path, policy)).waivers
    assert (waiver.value, waiver.expires) == (0.5, date(2999, 12, 31))
    with pytest.raises(WaiverError, match="model 'reviews', and this is 'other'"):
        load_config(run_config(tmp_path, policy, "other"))
    again = CliRunner().invoke(main, ["sign-waiver", str(file), "--key", str(key)])
    assert (again.exit_code, "signed already" in again.output) == (2, True)


def test_files_that_are_no_waiver_or_no_key_are_told(ann: tuple[Path, Policy], tmp_path: Path) -> None:
    key, _ = ann
    file = tmp_path / "waiver.yaml"
    file.write_text("rule: all\n", encoding="utf-8")
    (tmp_path / "text.pem").write_text("no key")
    other = write_key(tmp_path / "x25519.pem", x25519.X25519PrivateKey.generate())

    for chosen, message in [
        (key, "is no waiver: model: Field required"),
        (tmp_path / "none.pem", "cannot be read as a private key"),
        (tmp_path / "text.pem", "cannot be read as a private key"),
        (other, "is no Ed25519 key"),
    ]:
        refused = CliRunner().invoke(main, ["sign-waiver", str(file), "--key", str(chosen)])
        assert refused.exit_code == 2
        assert message in " ".join(refused.output.split())
        file.write_text(UNSIGNED, encoding="utf-8")


@pytest.mark.parametrize("key", ["", "no base64!", "AAAA", public_text(OF_ANOTHER_KIND)])
def test_a_policy_with_a_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "waiver.yaml").write_text(UNSIGNED, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"waiver_keys: the key of 'ann@example\.com' is no Ed25519 public key"):
        load_config(run_config(tmp_path, Policy.model_construct(waiver_keys={ANN: key})))
