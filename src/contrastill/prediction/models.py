"""Models that answer texts: a bundle, without torch, or any model that `export` takes, in torch."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from contrastill.answers import Answer
from contrastill.bundle import available, is_bundle, open_bundle, refuse_length
from contrastill.errors import UserError
from contrastill.settings import Prediction

__all__ = ["Model", "column_names", "open_model"]

Texts = Sequence[str | tuple[str, str]]


class Model(Protocol):
    """Common part of `Bundle` and `Exportable`."""

    @property
    def task(self) -> str: ...
    @property
    def max_length(self) -> int: ...
    @property
    def answer(self) -> Answer: ...
    def run(self, texts: Texts, batch_size: int = 32) -> np.ndarray[Any, Any]: ...
    def cut_share(self, texts: Texts) -> float: ...


def column_names(settings: Prediction) -> tuple[str | None, str | None]:
    """The columns of the first and second text in the run that made the model; None: unknown.

    Raises:
        UserError: the run's record is damaged, or there is no such model.
    """
    if is_bundle(settings.model):
        return None, None
    from contrastill.data.schema import glue_task
    from contrastill.exporting.source import run_record

    record = run_record(settings.model)
    source = record.setting("data", str) or ""
    schema = glue_task(source.removeprefix("glue/").partition(":")[0]) if source.startswith("glue/") else None
    text, pair = record.setting("text", str), record.setting("text_pair", str)
    return (schema.text, schema.text_pair) if schema is not None else (text, pair)


def open_model(settings: Prediction, pairs: bool) -> Model:
    """Opens the model. pairs: whether the rows have two texts.

    Raises:
        UserError: no such model, one that answers nothing, options that are not its own, texts where it reads pairs.
    """
    if not is_bundle(settings.model):
        return torch_model(settings, pairs)
    refuse_length(settings.max_length)
    threads = settings.threads or available()
    bundle = open_bundle(settings.model, threads=threads, workers=threads)  # as many at a time answer most texts
    if pairs != (bundle.texts == 2):
        wanted = "pairs: give --text and --text-pair" if bundle.texts == 2 else "single texts: leave out --text-pair"
        raise UserError(f"{settings.model}: expected {wanted}, as the bundle reads them")
    return bundle


def torch_model(settings: Prediction, pairs: bool) -> Model:
    import torch

    from contrastill.exporting.source import exportable

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    model = exportable(settings.model, pairs=pairs, max_length=settings.max_length, attention="sdpa")
    if pairs and model.texts == 1:
        raise UserError(
            f"{settings.model}: expected single texts for a sentence-embedding model; leave out --text-pair"
        )
    if torch.accelerator.is_available():
        model.module.to(torch.accelerator.current_accelerator())
    return model
