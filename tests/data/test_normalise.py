"""Cells as strings, label names, text keys: known answers."""

import pytest

from musclelora.data.normalise import as_string, label_name, text_key


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("1", "1"),
        (" 1 ", "1"),
        ("1.0", "1"),
        (1, "1"),
        (1.0, "1"),
        ("-2.00", "-2"),
        (True, "True"),
        ("true", "True"),
        ("FALSE", "False"),
        (0.5, "0.5"),
        ("1.5", "1.5"),
        ("01", "01"),
        ("positive", "positive"),
        ("NA", "NA"),
        ("nan", "nan"),
        (None, None),
        (float("nan"), None),
        ("", None),
        ("  ", None),
    ],
)
def test_a_label_is_spelled_one_way(value, name):
    assert label_name(value) == name


@pytest.mark.parametrize("text", ["", " x ", "1.0", "True", "NA", "null", "é\u200b\n"])
def test_text_is_never_altered(text):
    assert as_string(text) == text


@pytest.mark.parametrize("value", [["a"], {"a": 1}, b"bytes", "\ud800", "x\udfff"])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(ValueError, match=r"text|surrogates"):
        as_string(value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A  good\nfilm ", "a good film", True),
        ("ｆｉｌｍ", "film", True),
        ("Straße", "STRASSE", True),
        ("a\u00a0film", "a film", True),
        ("a film", "afilm", False),
        ("a film", "a film!", False),
    ],
)
def test_sameness_of_texts(one, other, same):
    assert (text_key(one) == text_key(other)) is same
