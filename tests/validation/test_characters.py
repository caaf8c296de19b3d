"""Invisible characters and mixed scripts: what is found, and what must not be."""

import time

import pytest

from musclelora.validation.characters import find_invisible, find_mixed_script


@pytest.mark.parametrize(
    "text",
    [
        "zero\u200bwidth",
        "zero\u200cwidth",
        "inside\u200dword",
        "alone \u200d here",
        "end\u200d",
        "bidi \u202eabc\u202c",
        "isolate \u2066x\u2069",
        "soft\u00adhyphen",
        "\ufeffmark",
        "private \ue000",
        "unassigned \U000e0fff",
        "tag \U000e0041",
        "bell \x07",
        "nul \x00",
        "delete \x7f",
        "filler \u3164",
        "joiner a\u034fb",
        "selector a\ufe0fb",
        "selectors 😀\ufe00\ufe01",
        "selector \U000e0100",
    ],
)
def test_invisible_characters_are_found(text):
    assert find_invisible(["clean", text])[1] is not None
    assert find_invisible(["clean", text])[0] is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain text, with\nlines\tand\r\ntabs",
        "naïve café — “quoted” …",
        "space\u00a0and\u3000space",
        "family 👨\u200d👩\u200d👧 and ❤\ufe0f, 1\ufe0f\u20e3, 👁\ufe0f\u200d🗨\ufe0f",
        "new emoji \U0001fae8",
        "Windows \x85 mojibake \x96",
        "日本語 русский ελληνικά עברית हिन्दी",
        "e\u0301 combining",
    ],
)
def test_visible_text_is_left_alone(text):
    assert find_invisible([text, "and\u200bhidden \ue000 😀\u200d"])[0] is None


def test_allowed_characters_pass():
    assert find_invisible(["می\u200cخواهم", "x\u200by"], allowed="\u200c")[0] is None
    assert find_invisible(["می\u200cخواهم", "x\u200by"], allowed="\u200c")[1] is not None


@pytest.mark.parametrize(
    "text", ["p\u0430ypal", "\u0455ame", "gr\u03bfup", "\uff41bc", "x\u0561", "\U0001d41bad", "naï\u0435"]
)
def test_mixed_words_are_found(text):
    spots = find_mixed_script(["clean", f"see {text} here"])
    assert spots[0] is None
    assert spots[1] is not None
    assert spots[1].start() == 4


@pytest.mark.parametrize(
    "text",
    [
        "русский text and ελληνικά",
        "IT-специалист",
        "ＦＵＬＬ width",
        "α-synuclein",
        "5 µm",
        "naïve Łódź",
        "日本語abc",
        "",
    ],
)
def test_words_of_one_script_are_left_alone(text):
    assert find_mixed_script([text, "p\u0430y"])[0] is None


def test_a_long_word_costs_linear_time():
    begin = time.perf_counter()
    find_mixed_script(["a" * 200_000 + " \u0430" + "a" * 10])
    assert time.perf_counter() - begin < 2
