"""The place of a model, and the checks of its files before it is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrastill.errors import UserError
from contrastill.hub import hub_answers
from contrastill.results import RunRecord, check_sealed

__all__ = ["Place", "locate", "model_folder", "run_settings"]

CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
OURS = "sentence_transformers."
SAVE = "save it again with save_pretrained"


@dataclass(frozen=True)
class Place:
    """A model's folder, or its name and revision on the Hub."""

    name: str  # as it was given
    source: str  # as transformers takes it
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        path = Path(self.source)
        return path if path.is_dir() else None

    def file(self, name: str) -> Path | None:
        """The file of this name, fetched if it is on the Hub; None if there is none."""
        if self.folder is not None:
            return path if (path := self.folder / name).is_file() else None
        from transformers.utils import cached_file

        try:
            found = cached_file(self.source, name, revision=self.revision, _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError):  # what is wrong with the name is said when the model itself is asked for
            return None
        return Path(found) if found else None

    def read(self, name: str, kind: type = dict) -> Any:
        """The JSON in a file; empty where there is no such file.

        Raises:
            UserError: it is no JSON, or JSON of another kind.
        """
        path = self.file(name)
        if path is None:
            return kind()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self.name}: {name} cannot be read ({str(error)[:80]}); {SAVE}") from None
        if not isinstance(content, kind):
            raise UserError(f"{self.name}: {name} holds a {type(content).__name__}, not a {kind.__name__}; {SAVE}")
        return content

    @property
    def embeds(self) -> bool:
        """Whether it is a sentence-transformers model."""
        return self.file("modules.json") is not None

    @property
    def architectures(self) -> list[str]:
        """The names of the model's classes, by its config."""
        kinds = self.read("config.json").get("architectures") or []
        return [str(kind) for kind in kinds] if isinstance(kinds, list) else []

    @property
    def classifies(self) -> bool:
        """Whether its config names a classifier."""
        return any("Classification" in kind for kind in self.architectures)

    @property
    def tags(self) -> bool:
        """Whether its config names a token classifier."""
        return any(kind.endswith("ForTokenClassification") for kind in self.architectures)

    @property
    def subfolder(self) -> str:
        """The folder of the first module of a sentence-transformers model; empty for any other."""
        modules = self.read("modules.json", list)
        first = modules[0] if modules and isinstance(modules[0], dict) else {}
        return str(first.get("path") or "")


def locate(name: str) -> Place:
    """The place of a model: a folder, a run's folder, a Hub name, or a Hub name@revision.

    Raises:
        UserError: nothing is there, or no model; a run's model that is not as the run saved it; a model whose answers
            would need code of its own; an adapter.
    """
    place = resolve(name)
    refuse_own_code(place)
    return place


def resolve(name: str) -> Place:
    path = Path(name).expanduser()
    try:
        there = path.exists()
    except (OSError, ValueError):  # longer than any file's name, or with a null byte
        raise UserError(f"expected a model folder or Hub name, got {name[:80]!r}") from None
    if there:
        folder = inner_folder(path, name)
        check_sealed(folder)
        return Place(name, str(folder))
    hub, _, revision = name.partition("@")
    if path.is_absolute() or name.startswith((".", "~")) or hub.count("/") > 1:
        raise UserError(f"expected a model folder or Hub name, found nothing at {name[:300]!r}")
    if "@" in name and not revision:
        raise UserError(f"expected a revision (branch, tag or commit) behind the @ of {name!r}, got none")
    hub_answers()
    return Place(name, hub, revision or None)


def inner_folder(path: Path, name: str) -> Path:
    """The model's folder: of a run's folder, the model inside."""
    if not path.is_dir():
        raise UserError(f"{name}: expected a model's folder or Hub name, got a file; give the folder it lies in")
    for inner in ("student", "model"):
        if (path / "run.json").is_file() and (path / inner).is_dir():
            return path / inner
    if (path / "bundle.json").is_file():
        raise UserError(
            f"{name}: expected a model, got a bundle, which is already exported; give the model it was "
            "made of, or score the bundle: contrastill evaluate --model FOLDER --data DATA"
        )
    if (path / "run.json").is_file():
        raise UserError(f"{name}: expected a finished run with a student/ or model/, found neither; finish it first")
    return path


def model_folder(name: str) -> str:
    """The folder of a model, as `locate` finds it; a Hub name as it is.

    Raises:
        UserError: nothing is there, or it holds no model.
    """
    place = resolve(name)
    if place.folder is None:
        return name
    check_whole(place)
    return place.source


def check_whole(place: Place) -> None:
    """Checks that a folder has what a model is loaded from, in formats that are read.

    Raises:
        UserError: it lacks something, or holds an adapter, a quantised model, or weights of another format.
    """
    folder = place.folder
    config = place.read("config.json")
    if folder is not None and not (config or place.embeds):
        other = next((p.name for p in sorted(folder.iterdir()) if p.suffix in (".gguf", ".onnx", ".xml")), None)
        if other:
            raise UserError(
                f"{place.name}: expected a model's folder with config.json and safetensors weights, got {other}, "
                "which cannot be trained; give the original model"
            )
        raise UserError(
            f"{place.name}: expected a model's folder (with config.json or modules.json), found neither; {SAVE}"
        )
    quantised = config.get("quantization_config")
    if quantised:
        how = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise UserError(
            f"{place.name}: expected weights in float32, float16 or bfloat16, got quantised ones "
            f"({str(how or 'quantization_config in config.json')[:80]}); give the model before quantisation"
        )
    if folder is not None:
        check_weights(place, folder / place.subfolder)


def check_weights(place: Place, folder: Path) -> None:
    """Checks that safetensors files are there, and all that their index names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = place.read(str(index.relative_to(place.source))).get("weight_map")
        names = sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []
        if lost := [shard for shard in names if not (folder / shard).is_file()]:
            raise UserError(
                f"{place.name}: {index.name} names {len(names)} files of weights, {len(lost)} are missing "
                f"({lost[0][:80]}); fetch or save them again"
            )
        return
    if any(folder.glob("*.safetensors")) or (place.embeds and not (folder / "config.json").is_file()):
        return
    pickled = next(
        (p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in sorted(folder.glob(pattern))), None
    )
    if pickled:
        raise UserError(
            f"{place.name}: expected weights in model.safetensors, got {pickled}, which is not read, as a pickle can "
            "run code; where you trust it, convert it: AutoModelForSequenceClassification (or AutoModel)"
            ".from_pretrained(FOLDER).save_pretrained(NEW FOLDER), and save the tokenizer there"
        )
    raise UserError(f"{place.name}: expected weights in model.safetensors, found none; {SAVE}")


# ---- whose code


def refuse_own_code(place: Place) -> None:
    """Refuses a model that needs its own code, or another package's, to run."""
    for name, what in own_code(place):
        raise UserError(
            f"{place.name}: {name} asks for code that comes with the model ({what[:80]!r}), which is never run; give a "
            "model of an architecture that transformers has, or remove that entry in a copy if it is one"
        )


def own_code(place: Place) -> list[tuple[str, str]]:
    """(file, class) of each class that is not transformers' or sentence-transformers' own."""
    found = []
    folders = [""]
    for module in place.read("modules.json", list):
        if not isinstance(module, dict):
            raise UserError(f"{place.name}: modules.json holds a {type(module).__name__}, not modules; {SAVE}")
        kind, path = str(module.get("type", "")), str(module.get("path") or "")
        if not kind.startswith(OURS):
            found.append(("modules.json", kind))
        folders += [path] if path and ".." not in Path(path).parts and not Path(path).is_absolute() else []
    for folder in folders:
        for name in CONFIGS:
            file = f"{folder}/{name}" if folder else name
            content = place.read(file)
            auto = content.get("auto_map")
            if auto:
                classes = auto.values() if isinstance(auto, dict) else [auto]
                found.append((file, str(next(iter(classes)))))
            activation = content.get("activation_function")
            if folder and isinstance(activation, str) and not activation.startswith("torch."):
                found.append((file, activation))  # sentence-transformers would take another in silence
    return found


# ---- the run that made it


def run_settings(name: str) -> dict[str, Any]:
    """The settings of the run that made a model; empty where none is known.

    Raises:
        UserError: its record is damaged.
    """
    place = resolve(name)
    record = RunRecord.of_model(place.folder) if place.folder is not None else None
    return record.settings if record is not None else {}
