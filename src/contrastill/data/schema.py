"""Layout of a data set: columns, classes in the order of their ids, metrics."""

import re
from dataclasses import dataclass

from contrastill.errors import UserError

__all__ = ["GLUE", "METRICS", "Schema", "glue_task"]

# Every metric a kind of task can be judged by.
METRICS = {
    "classification": ("accuracy", "f1", "f1_macro", "matthews"),
    "regression": ("spearman", "pearson"),
    "multilabel": ("map", "f1_micro", "f1_macro", "f1_samples"),
    "tagging": ("f1", "precision", "recall", "f1_macro"),
}


@dataclass(frozen=True)
class Schema:
    """The text and label columns of a data set, and its labels."""

    name: str
    kind: str  # "classification", "regression", "multilabel" or "tagging"
    text: str  # column names in the source
    text_pair: str | None
    label: str
    labels: tuple[str, ...]  # class names, or types of entities, in the order of their ids; () for regression
    metrics: tuple[str, ...]  # the first one selects checkpoints


def _glue(name: str, text: str, text_pair: str | None, labels: tuple[str, ...], *metrics: str) -> Schema:
    return Schema(name, "classification" if labels else "regression", text, text_pair, "label", labels, metrics)


# Columns and class order are those of nyu-mll/glue on the Hugging Face Hub. The first metric is the one that Devlin et
# al., 2019 (BERT, table 1) report: F1 for QQP and MRPC, Spearman for STS-B, Matthews for CoLA, else accuracy.
GLUE: dict[str, Schema] = {
    task.name: task
    for task in (
        _glue("cola", "sentence", None, ("unacceptable", "acceptable"), "matthews", "accuracy"),
        _glue("sst2", "sentence", None, ("negative", "positive"), "accuracy"),
        _glue("mrpc", "sentence1", "sentence2", ("not_equivalent", "equivalent"), "f1", "accuracy"),
        _glue("stsb", "sentence1", "sentence2", (), "spearman", "pearson"),
        _glue("rte", "sentence1", "sentence2", ("entailment", "not_entailment"), "accuracy"),
        _glue("qnli", "question", "sentence", ("entailment", "not_entailment"), "accuracy"),
        _glue("qqp", "question1", "question2", ("not_duplicate", "duplicate"), "f1", "accuracy"),
        _glue("mnli", "premise", "hypothesis", ("entailment", "neutral", "contradiction"), "accuracy"),
    )
}


def glue_task(name: str) -> Schema | None:
    """The GLUE task of that name, however it is spelt (SST-2, sst2, STS-B), or None."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    if key == "wnli":
        raise UserError(
            f"expected one of the GLUE tasks {', '.join(GLUE)}, got {name!r}; WNLI is left out on purpose: its "
            "dev split is adversarial to its train split, and papers drop it. Choose another task"
        )
    return GLUE.get(key)
