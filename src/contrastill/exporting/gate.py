"""The quality gate: an exported file answers the dev set, and its loss against torch is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from contrastill.answers import cosines
from contrastill.bundle import Bundle
from contrastill.data.labels import align_labels
from contrastill.data.load import TaskData
from contrastill.errors import UserError
from contrastill.evaluation import spearman
from contrastill.evaluation.calibration import calibration_by_chance, calibration_error
from contrastill.evaluation.inference import inference
from contrastill.evaluation.selective import kept_promise
from contrastill.evaluation.sts import load_scored_pairs
from contrastill.exporting.probes import NotFinite
from contrastill.exporting.source import Exportable, Texts
from contrastill.machine import spread_of
from contrastill.results import Split
from contrastill.tasks import LabelledTask, task_of

__all__ = [
    "STEADY",
    "Examples",
    "compare",
    "examples_of_pairs",
    "examples_of_task",
    "examples_of_texts",
    "measure",
    "scored",
    "texts_of",
    "worst_type",
]

Array = np.ndarray[Any, Any]
TIMED, ROUNDS = 32, 5
SHORT = 72  # lengths up to which each is tried: heads are 32 or 64 wide, and others between
STEADY = 0.95


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts, and the judgement of the answers to them."""

    data: str
    texts: Texts
    metric: str
    judge: Callable[[Array], float]
    """Answers (N, …) -> a score, 1 at best."""
    labels: Array | None = None
    task: LabelledTask | None = None
    split: str | None = None

    def calibrated(self, answers: Array) -> dict[str, Any] | None:
        """The calibration error of probabilities (N, C), and that of chance; None: answers are none."""
        if self.task is None or self.labels is None or not self.task.has_probabilities:
            return None
        judged = self.task.judgements(answers, self.labels)
        return {"error": calibration_error(*judged), "by_chance": calibration_by_chance(judged[0])}

    def points_lost(self, before: Array, after: Array) -> dict[str, Any]:
        """Points of the metric, with the 95 % bootstrap interval where rows are judged one by one."""
        first, second = self.judge(before), self.judge(after)
        lost: dict[str, Any] = {"torch": first, "bundle": second, "drop_points": 100 * (first - second)}
        if self.task is not None and self.labels is not None:
            _, low, high = self.task.paired(before, after, self.labels, self.metric)
            lost["drop_interval"] = [100 * low, 100 * high]
            lost["bundle_interval"] = list(self.task.interval(after, self.labels, self.metric))
            if (said := self.calibrated(before)) is not None:
                lost["calibration"] = {"torch": said, "bundle": self.calibrated(after)}
            kinds, now = (self.task.of_types(answers, self.labels) for answers in (before, after))
            if kinds is not None and now is not None:
                lost["types"] = {kind: {"torch": value, "bundle": now[kind]} for kind, value in kinds.items()}
        return lost


def examples_of_task(
    data: TaskData, model: Exportable | Bundle, split: str | None, metric: str | None = None
) -> Examples:
    """A labelled split: the asked one, else dev, else train.

    Raises:
        UserError: no such split, other classes than the model's, pairs for a model of single texts or the reverse.
    """
    data = align_labels(data, model.answer.classes or ["score"])
    split = split or ("dev" if "dev" in data.splits else "train")
    if split not in data.splits:
        raise UserError(f"expected a split of {sorted(data.splits)} of {data.schema.name}, got {split!r}")
    pairs = data.schema.text_pair is not None
    if pairs != (model.texts == 2):
        raise UserError(
            f"{data.schema.name}: expected {'pairs of texts' if model.texts == 2 else 'one text a row'} for this "
            f"model, got {'pairs' if pairs else 'one text a row'}; name the columns with --text and --text-pair"
        )
    rows = data.splits[split]
    task = task_of(data.schema)
    labels, task = task.labels_of(rows), task.with_answer(model.answer)
    metric = metric or task.judged_by
    return Examples(
        data=f"{data.schema.name} {split}",
        texts=texts_of(rows, pairs),
        metric=metric,
        judge=lambda answers: task.score(answers, labels, [metric])[metric],
        labels=labels,
        task=task,
        split=split,
    )


def texts_of(rows: Dataset, pairs: bool) -> Texts:
    first = list(rows["text"][:])
    return list(zip(first, rows["text_pair"][:], strict=True)) if pairs else first


def examples_of_pairs(source: str, encoding: str = "utf-8", delimiter: str | None = None) -> Examples:
    """Pairs that people have scored: Spearman of the cosines (see `load_scored_pairs`)."""
    pairs = load_scored_pairs(source, encoding, delimiter)
    texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
    place = {text: row for row, text in enumerate(texts)}
    first, second = ([place[text] for text in side] for side in (pairs.first, pairs.second))
    return Examples(
        data=Path(source).name,
        texts=texts,
        metric="spearman",
        judge=lambda vectors: spearman(cosines(vectors[first], vectors[second]), pairs.scores),
    )


def examples_of_texts(texts: Texts, torch_vectors: Array, name: str) -> Examples:
    """Without scored pairs: whether similarities rank as torch's do (Spearman over random pairs of the texts)."""
    random = np.random.default_rng(0)
    first, second = random.integers(0, len(texts), (2, 20 * len(texts)))
    apart = first != second
    first, second = first[apart], second[apart]
    wanted = cosines(torch_vectors[first], torch_vectors[second])
    return Examples(
        data=name,
        texts=texts,
        metric="spearman with torch's similarities",
        judge=lambda vectors: spearman(cosines(vectors[first], vectors[second]), wanted),
    )


def worst_type(gate: dict[str, Any]) -> tuple[str, float] | None:
    """The type of entity that loses most, and its points of F1; None: there are no types."""
    lost = {kind: 100 * (one["torch"] - one["bundle"]) for kind, one in gate.get("types", {}).items()}
    return max(lost.items(), key=lambda one: one[1]) if lost else None


def compare(source: Exportable, bundle: Bundle, examples: Examples, torch_answers: Array) -> dict[str, Any]:
    """The figures of the card: the metric of both, the agreement of their answers, and their time for one text.

    Raises:
        NotFinite: the exported file answers NaN or infinity.
    """
    answers = measure(bundle, examples)
    return {
        "padding_cosine_min": steadiness(bundle),
        "data": examples.data,
        "rows": len(examples.texts),
        "cut_share": source.cut_share(examples.texts),
        "metric": examples.metric,
        **examples.points_lost(torch_answers, answers),
        "agreement": source.answer.agreement(torch_answers, answers),
        "latency_ms": latencies(source, bundle, examples.texts),
    }


def scored(bundle: Bundle, examples: Examples) -> dict[str, Any]:
    """The bundle's own scores on labelled examples: every metric of the task, with the interval of the first, and what
    is answered without abstaining.

    Raises:
        NotFinite: the exported file answers NaN or infinity.
    """
    task, labels, answers = examples.task, examples.labels, measure(bundle, examples)
    assert task is not None
    assert labels is not None
    split = Split(task.score(answers, labels), len(labels), task.interval(answers, labels, task.metrics[0]))
    abstain = bundle.metadata.get("abstain")
    kept = {} if abstain is None else {"abstain": kept_promise(abstain, *task.judgements(answers, labels))}
    return {"data": examples.data, **split.to_json(), **kept}


def measure(bundle: Bundle, examples: Examples) -> Array:
    answers = bundle.run(examples.texts)
    finite = bundle.answer.finite(answers)
    if not finite.all():
        raise NotFinite(
            f"{bundle.folder}: expected finite answers, got NaN or infinity for {(~finite).sum()} of {len(answers)} "
            f"texts, the first {str(examples.texts[int(finite.argmin())])[:80]!r}; try another --precision"
        )
    return answers


def steadiness(bundle: Bundle) -> float:
    """The least cosine between answers to a text alone and padded by three places, over texts of many lengths.

    A runtime that compiles for each shape can be wrong in one of them, and the dev set need not have it.
    """
    random, found = np.random.default_rng(0), [1.0]
    size = bundle.tokenizer.get_vocab_size()
    lengths = [*range(2, min(SHORT, bundle.max_length - 2)), *range(SHORT, bundle.max_length - 2, 16)]
    for length in lengths:
        ids = random.integers(size // 4, size, (1, length))
        alone = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        fill = {"input_ids": bundle.metadata["pad_id"], "attention_mask": 0, "token_type_ids": 0}
        padded = {name: np.pad(some, ((0, 0), (0, 3)), constant_values=fill[name]) for name, some in alone.items()}
        answers = [bundle.compute({name: x[name] for name in bundle.metadata["inputs"]}) for x in (alone, padded)]
        if bundle.answer.per_word:
            answers = [each[0, :length] for each in answers]
        found.append(float(cosines(*map(bundle.answer.directions, answers)).min()))
    return float(np.min(found))  # NaN if one is


def latencies(source: Exportable, bundle: Bundle, texts: Texts) -> dict[str, Any]:
    """Medians for one text at a time, tokenised beforehand; the two take turns.

    spread: interquartile range over the rounds, as a share of their median; of the two, the larger.
    """
    chosen = [texts[row] for row in np.random.default_rng(0).permutation(len(texts))[:TIMED]]
    inputs = [source.encode([text]) for text in chosen]
    arrays = [bundle.tokenize([text]) for text in chosen]
    calls = {"torch": lambda n: source.module(**inputs[n]), "bundle": lambda n: bundle.compute(arrays[n])}
    rounds: dict[str, list[list[float]]] = {name: [] for name in calls}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(bundle.threads)
        with inference(source.module):
            for turn in range(ROUNDS):
                for name, call in calls.items():
                    call(0)  # not timed: the other has emptied the processor's caches
                    times = []
                    for n in range(len(chosen)):
                        start = perf_counter()
                        call(n)
                        times.append(1000 * (perf_counter() - start))
                    if turn:
                        rounds[name].append(times)
    finally:
        torch.set_num_threads(before)
    ours, theirs = (float(np.median(rounds[name])) for name in calls)
    medians = {name: [round(float(np.median(times)), 4) for times in found] for name, found in rounds.items()}
    return {
        "torch_p50": ours,
        "bundle_p50": theirs,
        "ratio": ours / theirs,
        "threads": bundle.threads,
        "rounds_ms": medians,
        "spread": max(spread_of(found) for found in medians.values()),
    }
