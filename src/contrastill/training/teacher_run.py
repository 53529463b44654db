"""Settings that a command adopts from its teacher's run: the data, and how they were read."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from contrastill.errors import UserError
from contrastill.loading.place import inner_folder
from contrastill.results import RunRecord, located
from contrastill.settings import Distillation
from contrastill.settings.data import PlaceOfTeacher

__all__ = ["adopted", "as_teacher"]

logger = logging.getLogger(__name__)

SAME = (
    "text",
    "text_pair",
    "label",
    "task",
    "separator",
    "labels",
    "dev",
    "test",
    "dev_share",
    "encoding",
    "delimiter",
)
"""Settings that are taken over wherever the data are the same."""
ALL = ("data", "limit", "metric")
"""Settings that are taken over with the data themselves."""
DEFAULTS: dict[str, Any] = {"encoding": "utf-8"}

S = TypeVar("S", bound=PlaceOfTeacher)


def as_teacher(settings: Distillation) -> tuple[Distillation, dict[str, Any]]:
    """The settings with what `adopted` takes over from the teacher's run, and that by name.

    Raises:
        UserError: no data are given and none are known.
    """
    found, taken = adopted(settings, settings.teacher)
    if found.data is None and settings.teacher is not None:
        raise UserError(
            f"--data: expected the data to distil on, got none, and {settings.teacher} is no model of a run that tells "
            "its own; give --data, or as --teacher the folder of a finetune run (for sentence embeddings: --method "
            "disco --texts FILE)"
        )
    return found, taken


def adopted(settings: S, model: str | None) -> tuple[S, dict[str, Any]]:
    """The settings with the data of a model's run where none are given, and how they were read where they are the
    same: rows that the model did not learn from stay out of training. Beside them what was taken over, by name."""
    record = None if model is None else run_of(model)
    there = record.settings.get("data") if record is not None else None
    taken: dict[str, Any] = {}
    if record is not None and there is not None:
        ours = settings.data and located({"data": settings.data}, Path.cwd())["data"]
        names = (*ALL, *SAME) if ours is None else SAME if ours == there else ()
        known = {name: record.setting(name, str, list, int, float) for name in names if getattr(settings, name) is None}
        taken = {name: value for name, value in known.items() if value not in (None, DEFAULTS.get(name))}
    if taken:
        logger.info(
            "as in the teacher's run: %s", ", ".join(f"{name} = {value}"[:100] for name, value in taken.items())
        )
    defaults = {name: value for name, value in DEFAULTS.items() if getattr(settings, name) is None}
    return replace(settings, **(defaults | taken)), taken


def run_of(teacher: str) -> RunRecord | None:
    """The record of the run that made a model; None where none is known.

    Raises:
        UserError: the record is damaged.
    """
    folder = Path(teacher).expanduser()
    return RunRecord.of_model(inner_folder(folder, teacher)) if folder.is_dir() else None
