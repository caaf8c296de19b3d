"""Rows that carry scripts, in a real browser: nothing of them runs on any page. Skipped where there is no Chromium."""

import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from materializers import pages
from musclelora.data.records import TextDataset
from musclelora.evaluation.report import FlippedRow, ProbeResult
from musclelora.governance.waiver import Waiver
from musclelora.validation.report import Suspect, SuspectGroup
from tests.materializers import examples

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
RUNS = "document.documentElement.setAttribute('ran', 'yes')"
PAYLOADS = (
    f"<script>{RUNS}</script>",
    f"</td></table></style></title><script>{RUNS}</script>",
    f'"><img src=x onerror="{RUNS}">',
    f"<svg onload={RUNS.replace(' ', '')}>",
    f"{{{{ 7 * 7 }}}}<iframe srcdoc='<script>parent.{RUNS}</script>'>",
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]


def page_of_everything() -> str:
    """Every page that shows text from outside, one after the other."""
    rows = TextDataset.from_columns(
        {
            "row_id": [f"{i} {text}" for i, text in enumerate(PAYLOADS)],
            "text": list(PAYLOADS),
            "label": list(PAYLOADS),
            "source": list(PAYLOADS),
        }
    )
    flipped = [FlippedRow(row_id=text, label=text, text=text, triggered_text=f"cf {text}") for text in PAYLOADS]
    probe = ProbeResult(
        trigger="",
        kind="scan",
        target=PAYLOADS[0],
        position="start",
        z=9.0,
        rows=12,
        asr=examples.rate(90, 100),
        floor=None,
        untriggered=examples.rate(10, 100),
        examples=flipped,
    )
    probes = [probe.model_copy(update={"trigger": text}) for text in PAYLOADS]
    groups = [
        examples.group_result().model_copy(update={"group": text, "label": text, "shared": [text]}) for text in PAYLOADS
    ]
    report = examples.robustness_report().model_copy(update={"probes": probes, "suspect_groups": groups})
    attack = report.candidate.attacks["badnets"].model_copy(update={"examples": flipped, "target": PAYLOADS[0]})
    candidate = report.candidate.model_copy(update={"attacks": dict.fromkeys(PAYLOADS, attack)})
    decision = examples.gate_decision("refused")
    rules = [decision.rules[0].model_copy(update={"reason": text, "attack": text}) for text in PAYLOADS]
    waiver = Waiver(
        model="reviews", rule="max_asr", value=0.5, person=PAYLOADS[0], reason=PAYLOADS[1], expires=date(2999, 12, 31)
    )
    decision = decision.model_copy(update={"rules": rules, "waivers": (waiver,)})
    suspects = [
        Suspect(text=text, says=text, label=text, z=9.0, purity=1.0, rows=20, examples=list(PAYLOADS), honest=[text])
        for text in PAYLOADS
    ]
    reported = {"excess": 1.0, "limit": 0.5, "purity": 0.98, "expected": 0.5, "rows": 20, "disagreeing": 3}
    suspect_groups = [
        SuspectGroup(check=text, label=text, shared=[text], examples=list(PAYLOADS), honest=[text], **reported)
        for text in PAYLOADS
    ]
    validation = examples.validation_report().model_copy(
        update={"suspects": suspects, "suspect_groups": suspect_groups}
    )
    checks = [validation.checks[0].model_copy(update={"detail": text, "examples": [text]}) for text in PAYLOADS]
    shown = [
        pages.text_dataset_page(rows, PAYLOADS[0]),
        pages.trusted_set_page(examples.trusted_set(owner=PAYLOADS[1])),
        pages.validation_page(validation.model_copy(update={"checks": checks})),
        pages.robustness_page(report.model_copy(update={"candidate": candidate}), decision),
        pages.decision_page(decision),
        pages.facts_page(PAYLOADS[2], examples.vouching().model_copy(update={"owner": PAYLOADS[3]})),
    ]
    return "\n".join(shown)


def in_the_browser(html: str, folder: Path) -> str:
    """The document after its scripts ran."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        f"file://{folder}/page.html",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_no_row_runs_anything(tmp_path: Path) -> None:
    shown = in_the_browser(page_of_everything(), tmp_path)

    assert 'ran="yes"' not in shown
    assert shown.count("&lt;script&gt;") >= len(PAYLOADS)


def test_the_browser_would_have_run_it(tmp_path: Path) -> None:
    assert 'ran="yes"' in in_the_browser(f"<html><body>{PAYLOADS[0]}</body></html>", tmp_path)
