"""A model to export: with its pooling and normalisation, or its head and softmax, as one torch module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.answers import Answer, answer_of
from contrastill.data.windows import read_texts
from contrastill.errors import UserError
from contrastill.evaluation.inference import inference
from contrastill.loading import (
    attend,
    check_ids,
    default_prompt,
    load_classifier,
    load_embedder,
    load_tokenizer,
    model_folder,
    positions,
    rows_of,
)
from contrastill.results import RunRecord
from contrastill.spans import Reading, tagged
from contrastill.tasks import Embedding, Task, task_of_model

__all__ = ["Exportable", "Texts", "exportable", "run_record", "told_by_run"]

Texts = Sequence[str | tuple[str, str]]
Array = np.ndarray[Any, Any]


class Graph(nn.Module):
    """Computes the graph's answers. Inputs int64 (B, L) each; the output's name and width follow from the task."""

    def __init__(self, model: Any, inputs: Sequence[str], task: Task) -> None:
        super().__init__()
        self.model, self.inputs, self.task = model, tuple(inputs), task

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        features = {name: tensor for name in self.inputs if (tensor := given[name]) is not None}
        return self.task.answer(self.model, features)


@dataclass(frozen=True)
class Exportable:
    """A loaded model, ready to be exported."""

    name: str
    module: Graph
    tokenizer: Tokenizer
    task: str  # its name
    labels: tuple[str, ...] | None
    thresholds: tuple[float, ...] | None  # above which a label is answered
    temperatures: tuple[float, ...] | None  # which the graph divides logits by
    dimensions: int | None
    ordered: bool  # whether the first N numbers of a vector serve by themselves
    texts: int  # 2: pairs
    max_length: int
    positions: int | None = None  # the longest input that the model has positions for
    prompt: str = ""
    teacher: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.module.inputs

    @property
    def answer(self) -> Answer:
        return answer_of({name: getattr(self, name) for name in ("task", "labels", "thresholds", "dimensions")})

    @property
    def output(self) -> str:
        return self.answer.output

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def encoder(self) -> PreTrainedModel:
        """The transformers model inside, with its config and its table of word vectors."""
        return self.module.model[0].model if "pooled" in self.module.task.outputs else self.module.model

    def encode(self, texts: Texts) -> dict[str, Tensor]:
        """Tokens as transformers makes them: int64 (B, L), cut at `max_length`, padded to the longest."""
        read = [(self.prompt + text,) if isinstance(text, str) else tuple(text) for text in texts]
        columns = [list(column) for column in zip(*read, strict=True)]
        encoded = self.tokenizer(
            *columns, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        device = next(self.module.parameters()).device
        return {name: encoded[name].to(device) for name in self.inputs}

    def cut_share(self, texts: Texts) -> float:
        """The share of texts, or pairs, longer than `max_length`."""
        if self.answer.per_word:
            return sum(one.long for one in self.read([str(text) for text in texts])) / len(texts)
        read = [(self.prompt + text,) if isinstance(text, str) else tuple(text) for text in texts]
        columns = [list(column) for column in zip(*read, strict=True)]
        ids = self.tokenizer(*columns, verbose=False, truncation=False)["input_ids"]
        return sum(len(one) > self.max_length for one in ids) / len(ids)

    def random_texts(self, count: int, seed: int = 0) -> Texts:
        """Texts of words drawn from the vocabulary, 3 to 24 of them, always the same."""
        words = sorted(word for word in self.tokenizer.get_vocab() if word.isalpha()) or ["a"]
        random = np.random.default_rng(seed)
        lines = [" ".join(words[i] for i in random.integers(0, len(words), 3 + row % 22)) for row in range(count)]
        return lines if self.texts == 1 else list(zip(lines, reversed(lines), strict=True))

    def run(self, texts: Texts, batch_size: int = 32) -> Array:
        """The answers in torch, float32, in the order of the texts: what an exported file is compared with."""
        if self.answer.per_word:
            return self.tag([str(text) for text in texts], batch_size)
        order = sorted(range(len(texts)), key=lambda row: -len(str(texts[row])))
        rows: dict[int, Tensor] = {}
        with inference(self.module):
            for first in range(0, len(order), batch_size):
                some = order[first : first + batch_size]
                answers = self.module(**self.encode([texts[row] for row in some]))
                rows.update(zip(some, answers, strict=True))
        return torch.stack([rows[row] for row in range(len(texts))]).float().cpu().numpy()

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Texts as a tagger reads them."""
        return list(read_texts(texts, self.tokenizer, self.max_length))

    def tag(self, texts: Sequence[str], batch_size: int) -> Array:
        """As `run`, of a tagger: (N,) `spans.Tagged`."""
        readings = self.read(texts)
        windows = [window for reading in readings for window in reading.windows]
        order = sorted(range(len(windows)), key=lambda row: -len(windows[row].ids))
        device = next(self.module.parameters()).device
        found: dict[int, Array] = {}
        with inference(self.module):
            for first in range(0, len(order), batch_size):
                some = order[first : first + batch_size]
                longest = max(len(windows[row].ids) for row in some)
                fill = {"input_ids": self.tokenizer.pad_token_id or 0, "attention_mask": 0, "token_type_ids": 0}
                batch = {name: torch.full((len(some), longest), fill[name]) for name in self.inputs}
                for n, row in enumerate(some):
                    size = len(windows[row].ids)
                    batch["input_ids"][n, :size] = torch.tensor(windows[row].ids)
                    batch["attention_mask"][n, :size] = 1
                    if "token_type_ids" in batch:
                        batch["token_type_ids"][n, :size] = torch.tensor(windows[row].types)
                answers = self.module(**{name: tensor.to(device) for name, tensor in batch.items()})
                found |= zip(some, answers.float().cpu().numpy(), strict=True)
        return tagged(readings, (found[row] for row in range(len(windows))))


def exportable(
    name: str, *, pairs: bool = False, max_length: int | None = None, attention: str = "eager"
) -> Exportable:
    """Loads a classifier, a regressor or a sentence-embedding model, in eval mode, on the CPU.

    Args:
        name: Hub name, the model's folder, or the folder of the run that made it.
        pairs: whether an answer takes two texts.
        max_length: longest input in tokens; by default the run's, else the model's own.
        attention: its implementation in transformers; the plain products ("eager") are what the runtimes fuse best.

    Raises:
        UserError: no such model, a bare encoder (it answers nothing), or a tokenizer that only Python can run.
    """
    folder = model_folder(name)
    if (Path(folder) / "modules.json").is_file() or is_embedder(folder):
        source = embedder(folder, max_length)
    else:
        source = classifier(folder, pairs, max_length)
    attend(source.encoder, attention)
    if not source.tokenizer.is_fast:
        raise UserError(
            f"{name}: expected a fast tokenizer (tokenizer.json), got a slow one; save it again as a fast one"
        )
    check_ids(max(source.tokenizer.get_vocab().values()), rows_of(source.encoder))  # a bundle is given any text
    source.module.eval().requires_grad_(False)
    return source


def run_record(name: str) -> RunRecord:
    """The record of the run that made a model; an empty one where none is known."""
    return RunRecord.of_model(model_folder(name)) or RunRecord("", {})


@contextmanager
def told_by_run(told: bool, instead: str) -> Iterator[None]:
    """Around reading data that a run tells, if it does: an error then says so, and what to give instead."""
    try:
        yield
    except UserError as error:
        if not told:
            raise
        raise UserError(f"the run's own data: {error}; restore them, or give {instead}") from None


def is_embedder(name: str) -> bool:
    """Whether a model on the Hub is a sentence-embedding model."""
    if Path(name).exists():
        return False
    from transformers.utils import cached_file

    try:
        return cached_file(name, "modules.json", _raise_exceptions_for_missing_entries=False) is not None
    except OSError:
        return False


def embedder(name: str, max_length: int | None) -> Exportable:
    model = load_embedder(name).float().eval()
    encoder = getattr(model[0], "model", None)
    if not isinstance(encoder, PreTrainedModel):
        raise UserError(
            f"{name}: expected a sentence-embedding model over a transformers encoder, got {type(model[0]).__name__}; "
            "only such a model can be exported"
        )
    tokenizer = model.tokenizer
    longest = max_length or model.max_seq_length or longest_input(tokenizer, encoder.config)
    return Exportable(
        name=own_name(name),
        module=Graph(model, inputs_of(tokenizer, encoder), Embedding()),
        tokenizer=tokenizer,
        task=Embedding.name,
        labels=None,
        thresholds=None,
        temperatures=None,
        dimensions=model.get_embedding_dimension(),
        ordered=run_record(name).setting("projection", str) == "compact",
        texts=1,
        max_length=fitting(longest, encoder.config, tokenizer.num_special_tokens_to_add()),
        positions=positions(encoder.config),
        prompt=default_prompt(model),
        teacher=teacher_of(name),
    )


def classifier(name: str, pairs: bool, max_length: int | None) -> Exportable:
    model, tokenizer = load_classifier(name), load_tokenizer(name)
    task = task_of_model(name, model.config)
    longest = max_length or run_record(name).setting("max_length", int) or longest_input(tokenizer, model.config)
    return Exportable(
        name=own_name(name),
        module=Graph(model, inputs_of(tokenizer, model), task),
        tokenizer=tokenizer,
        task=task.name,
        labels=task.names if task.labels else None,
        thresholds=None if task.thresholds is None else tuple(map(float, task.thresholds)),
        temperatures=None if task.temperatures is None else tuple(map(float, task.temperatures)),
        dimensions=None,
        ordered=False,
        texts=2 if pairs else 1,
        max_length=fitting(longest, model.config, tokenizer.num_special_tokens_to_add(pair=True)),
        positions=positions(model.config),
        teacher=teacher_of(name),
    )


def inputs_of(tokenizer: Tokenizer, model: Any) -> tuple[str, ...]:
    """Token types only where the tokenizer makes several and the model tells them apart."""
    types = "token_type_ids" in tokenizer.model_input_names and (getattr(model.config, "type_vocab_size", 0) or 0) > 1
    return ("input_ids", "attention_mask", *(("token_type_ids",) if types else ()))


def longest_input(tokenizer: Tokenizer, config: Any) -> int:
    return min(tokenizer.model_max_length, positions(config) or 512)


def fitting(length: int, config: Any, special: int) -> int:
    room, least = positions(config), special + 1
    if length < least or (room is not None and length > room):
        upper = f"from {least} to {room}, the positions that the model has" if room else f"of {least} or more"
        raise UserError(f"expected a --max-length {upper}, got {length}; {special} of them are special tokens")
    return int(length)


def own_name(name: str) -> str:
    """The run's name for runs/x/student, else the folder's: never a path."""
    path = Path(name).resolve() if Path(name).exists() else Path(name)
    return path.parent.name if path.name in ("student", "model") else path.name


def teacher_of(name: str) -> str | None:
    teacher = run_record(name).setting("teacher", str, list)
    names = [teacher] if isinstance(teacher, str) else teacher or []
    return " and ".join(own_name(one) for one in names) or None
