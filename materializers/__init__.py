"""How each artifact type is stored by ZenML, and its HTML page. Importing this package registers them all.

A step module must import it: without that ZenML would store our dataclasses through its own fallbacks, as pickles.
"""

from materializers.cell_result import CellResultMaterializer
from materializers.defended_model import DefendedModelMaterializer
from materializers.gate_decision import GateDecisionMaterializer
from materializers.registered_version import RegisteredVersionMaterializer
from materializers.robustness_report import RobustnessReportMaterializer
from materializers.text_dataset import TextDatasetMaterializer
from materializers.trusted_set import TrustedSetMaterializer
from materializers.validation_report import ValidationReportMaterializer
from materializers.vouching import ChampionResultMaterializer, VouchingMaterializer

__all__ = [
    "CellResultMaterializer",
    "ChampionResultMaterializer",
    "DefendedModelMaterializer",
    "GateDecisionMaterializer",
    "RegisteredVersionMaterializer",
    "RobustnessReportMaterializer",
    "TextDatasetMaterializer",
    "TrustedSetMaterializer",
    "ValidationReportMaterializer",
    "VouchingMaterializer",
]
