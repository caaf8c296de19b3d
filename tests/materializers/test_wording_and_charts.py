"""Words and geometry of the pages."""

from hypothesis import example, given
from hypothesis import strategies as st

from materializers.charts import length_bars, line_chart
from materializers.wording import Words, amount, compare, length, percent, visible, without_password


def test_the_words_a_trigger_added_are_marked() -> None:
    assert compare("the plot drags", "the plot cf drags") == [
        Words("the plot", False),
        Words("cf", True),
        Words("drags", False),
    ]


@given(st.text(), st.text())
def test_unmarked_words_are_words_of_the_original(original: str, triggered: str) -> None:
    kept = [word for piece in compare(original, triggered) if not piece.inserted for word in piece.text.split()]
    assert set(kept) <= {*visible(original).split(), "…"}


@given(st.text())
def test_visible_text_can_be_written_as_utf8_on_one_line(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not {"\n", "\r", "\t", "\u200b", "\u202e"} & set(shown)


@given(st.lists(st.integers(0, 5000), max_size=300))
def test_every_row_is_in_one_bar_of_the_histogram(lengths: list[int]) -> None:
    found = length_bars(lengths)
    assert sum(bar.rows for bar in found) == len(lengths)
    assert len(found) <= 11


@example([5e-324])
@given(st.lists(st.none() | st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=40))
def test_a_curve_stays_inside_its_chart(ys: list[float | None]) -> None:
    chart = line_chart(list(range(1, len(ys) + 1)), {"loss": ys})
    points = chart.lines[0].points
    assert len(points) == sum(y is not None for y in ys)
    assert all(chart.left <= x <= chart.right and 0 <= y <= chart.bottom for x, y in points)


def test_a_missing_epoch_breaks_the_line() -> None:
    assert len(line_chart([1, 2, 3], {"loss": [0.5, None, 0.4]}).lines[0].paths) == 2


def test_rates_and_counts() -> None:
    assert (percent(0.5), percent(None), percent(float("nan"))) == ("50.0 %", "not measured", "not a number")
    assert (amount(200.0, "min_triggered_rows"), amount(0.4, "max_asr")) == ("200", "40.0 %")
    assert (length(1.5), length(float("inf"))) == ("100.00%", "0%")


def test_a_password_leaves_the_uri() -> None:
    assert without_password("https://a:b@host:5000/x") == "https://host:5000/x"
    assert without_password("sqlite:////tmp/ml.db") == "sqlite:////tmp/ml.db"
