"""Which rows of a delivery are new, what validation says of them alone, and what a person is told afterwards."""

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.evaluation.report import ProbeResult, RobustnessReport
from musclelora.governance.coverage import Occasion
from musclelora.governance.decision import GateDecision
from musclelora.governance.registered import RegisteredVersion
from musclelora.validation.config import ValidationConfig
from musclelora.validation.report import Suspect, ValidationReport
from musclelora.validation.suite import UnusableDataError, validate
from musclelora.validation.token_scan import Scan


def new_rows(delivered: TextDataset, known: TextDataset | None) -> TextDataset:
    """The delivered rows whose text and label are not in `known`; all of them where nothing is known."""
    if known is None:
        return delivered
    seen = set(zip(known.texts, known.labels, strict=True))
    return delivered.where([pair not in seen for pair in zip(delivered.texts, delivered.labels, strict=True)])


def screen(
    new: TextDataset, test: TextDataset, trusted: TrustedSet, config: ValidationConfig, scan: Scan | None
) -> ValidationReport | None:
    """Validation of the new rows alone, where a poison that came with them stands out; None where there are none.

    Nothing is stopped here, since the new rows are part of the delivery, whose own validation decides.
    """
    if not len(new):
        return None
    try:
        return validate(new, None, test, trusted, config, scan).report
    except UnusableDataError as error:
        return error.report


def alert_text(
    occasion: Occasion,
    validation: ValidationReport,
    new: ValidationReport | None,
    report: RobustnessReport,
    decision: GateDecision,
    registered: RegisteredVersion,
) -> str | None:
    """What a person should know; None where the candidate was accepted and no word or phrase was suspect.

    `new` is the validation of the rows that came since the champion, None where none came.
    """
    among_new = {suspect.text: suspect for suspect in (new.suspects if new else [])}
    suspects = among_new | {suspect.text: suspect for suspect in validation.suspects}
    version = f"{registered.name} version {registered.version}"
    if decision.decision == "accepted":
        if not suspects:
            return None
        said = [f"{version} was accepted ({', '.join(registered.aliases)}), and its rows were not all in order."]
    else:
        unmoved = f"the champion is still version {occasion.champion}" if occasion.champion else "there is no champion"
        said = [f"{version} is {decision.decision} and has no alias; {unmoved}. {' '.join(decision.reasons)}"]
    probes = {probe.trigger: probe for probe in report.probes}
    set_aside = {suspect.text for suspect in validation.suspects}
    for text, suspect in suspects.items():
        said.append(_suspicion(suspect, text in set_aside, among_new.get(text), probes.get(text)))
    return " ".join([*said, occasion.reason])


def _suspicion(suspect: Suspect, set_aside: bool, among_new: Suspect | None, probe: ProbeResult | None) -> str:
    fresh = f", {among_new.rows} of them new" if among_new else ""
    measured = f"; put into clean rows it turns {probe.asr.value:.1%} into that label" if probe else ""
    return (
        f"Suspected trigger {suspect.text!r} for the label {suspect.label!r} in {suspect.rows} rows{fresh}, "
        f"{'which were set aside' if set_aside else 'which were NOT set aside'}{measured}."
    )
