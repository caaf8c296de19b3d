"""Lines of the table on the terminal."""

from pipelines.table import _group_lines
from tests.materializers import examples


def test_a_suspect_group_is_a_line_with_its_share_bound_and_floor():
    report = examples.robustness_report().model_copy(update={"suspect_groups": [examples.group_result()]})
    [line] = _group_lines(report)
    assert line == ("suspect group", "", "", "group 1, label positive", "12.5%", "20.3%", "10.0%", "-", "")
