"""DefendedModel: the folder, file by file, in the artifact store. Safetensors only."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType

from materializers.base import PageMaterializer, content_hash
from materializers.pages import training_page
from musclelora.data.code_files import pickles_among
from musclelora.errors import ModelError
from musclelora.training.defended_model import RECORD, DefendedModel

FOLDER = "folder"


def _refuse_pickles(names: Iterable[str], where: str) -> None:
    pickles = pickles_among(names)
    if pickles:
        raise ModelError(
            f"{where} holds {', '.join(pickles[:5])}: files of these kinds may run code when they are loaded, so they "
            "are neither saved nor read. Save the weights as safetensors and leave optimizer states out of the folder."
        )


class DefendedModelMaterializer(PageMaterializer):
    """Its value is what the model computes and how it was trained, without the seconds that took."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (DefendedModel,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.MODEL

    def save(self, data: DefendedModel) -> None:
        """Copy the folder; raises `ModelError` where it holds pickles or no weights."""
        names = [path.relative_to(data.folder).as_posix() for path in data.folder.rglob("*") if path.is_file()]
        _refuse_pickles(names, str(data.folder))
        if RECORD not in names or not any(name.startswith("model/") for name in names):
            raise ModelError(f"{data.folder} is not a defended model: it needs {RECORD} and a folder model/.")
        for name in sorted(names):
            stored = f"{FOLDER}/{name}"
            self.artifact_store.makedirs(os.path.dirname(self.path(stored)))
            self.upload(data.folder / name, stored)

    def load(self, data_type: type[Any]) -> DefendedModel:  # noqa: ARG002 (ZenML names the arguments)
        """Copy the folder to a local one, deleted after the step (outside a step: by the caller).

        Raises `ModelError` where it holds pickles, `DataError` where it was altered.
        """
        names = list(self._stored_names(""))
        _refuse_pickles(names, self.path(FOLDER))
        with self.get_temporary_directory(delete_at_exit=False) as folder:
            for name in names:
                local = Path(folder) / name
                local.parent.mkdir(parents=True, exist_ok=True)
                self.download(f"{FOLDER}/{name}", local)
        model = DefendedModel(Path(folder))
        self.refuse_if_altered(self.compute_content_hash(model))
        return model

    def _stored_names(self, under: str) -> Iterator[str]:
        """Names of all stored files, relative to the folder."""
        for entry in sorted(map(os.fsdecode, self.artifact_store.listdir(self.path(f"{FOLDER}/{under}".rstrip("/"))))):
            name = f"{under}/{entry}".strip("/")
            if self.artifact_store.isdir(self.path(f"{FOLDER}/{name}")):
                yield from self._stored_names(name)
            else:
                yield name

    def compute_content_hash(self, data: DefendedModel) -> str:
        record = json.loads((data.folder / RECORD).read_text(encoding="utf-8"))
        del record["seconds"]
        return content_hash("DefendedModel", {"sha256": data.sha256, "record": record})

    def extract_metadata(self, data: DefendedModel) -> dict[str, Any]:
        record = data.record
        return {
            "sha256": data.sha256,
            "recipe": record.recipe.name,
            "base": record.base,
            "rows": record.rows,
            "seed": record.seed,
            "trainable_parameters": record.trainable_parameters,
            "best_epoch": record.best_epoch,
            "train_seconds": record.seconds,
        }

    def page(self, data: DefendedModel) -> str:
        return training_page(data.record)
