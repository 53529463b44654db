"""What a run keeps of its answers, for its page: counts, shares and a few examples, however many rows there are.

N rows, C classes; "ours" is what was trained, "theirs" its teacher, or what it was before. `texts` gives the texts of
the rows whose numbers it gets. Everything returned is ready for JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["EXAMPLES", "of_classes", "of_labels", "of_pairs", "of_scores", "of_vectors"]

EXAMPLES = 20  # rows that are shown
LONGEST = 600  # characters of a text that are shown
BINS = 100
TOP = 3  # answers of a model that are shown
TOP_LABELS = 12  # labels of a row that are shown
BANDS = 5  # of the true scores, lowest to highest

A_PAIR = "a pair's place among all, from 0 to 1"

Array = np.ndarray[Any, Any]
Texts = Callable[[Array], Sequence[Sequence[str]]]


def of_classes(
    labels: Array, ours: Array, theirs: Array | None, names: Sequence[str], texts: Texts, split: str = "dev"
) -> dict[str, Any]:
    """labels (N,) ids; ours, theirs (N, C) logits. Rows are chosen by how far the probabilities are apart (total
    variation); without a teacher, by how little probability the true class gets."""
    labels = labels.astype(np.int64)
    p, q = softmax(ours), None if theirs is None else softmax(theirs)
    if q is None or theirs is None:
        far = 1 - p[np.arange(len(p)), labels]
        drawn = histogram(1 - far, 0, 1, "probability of the true class", "probability given to the true class")
    else:
        far = np.abs(p - q).sum(1) / 2
        if p.shape[1] == 2:
            what = f"probability of {names[1]!r}: the student's less the teacher's"
            drawn = histogram(p[:, 1] - q[:, 1], -1, 1, "difference of probability", what)
        else:
            alike = cosines(centred(ours), centred(theirs))
            drawn = histogram(alike, -1, 1, "cosine of logits", "cosine of the two models' logits, centred")
    picked = furthest(far)
    return {
        "kind": "classification",
        "split": split,
        "rows": len(labels),
        "equal_answers": None if q is None else share(p.argmax(1) == q.argmax(1)),
        "classes": [
            {
                "name": str(name),
                "rows": int((labels == n).sum()),
                "ours": one_class(p.argmax(1), labels, n),
                "theirs": None if q is None else one_class(q.argmax(1), labels, n),
            }
            for n, name in enumerate(names)
        ],
        "histogram": drawn,
        "examples": [
            {
                "texts": cut(shown),
                "label": str(names[labels[row]]),
                "right": {"ours": bool(p[row].argmax() == labels[row])}
                | ({} if q is None else {"theirs": bool(q[row].argmax() == labels[row])}),
                "ours": top(p[row], names),
                "theirs": None if q is None else top(q[row], names),
                "difference": rounded(far[row]),
            }
            for row, shown in zip(picked, texts(picked), strict=True)
        ],
    }


def of_labels(
    labels: Array,
    ours: Array,
    theirs: Array | None,
    names: Sequence[str],
    thresholds: tuple[Array, Array],
    texts: Texts,
    split: str = "dev",
) -> dict[str, Any]:
    """labels (N, C) of 0 and 1; ours, theirs (N, C) probabilities; thresholds (C,) of each model. Rows are chosen by
    the mean distance of the probabilities; without a teacher, from the labels."""
    truth, said = labels > 0.5, ours > thresholds[0]
    there = None if theirs is None else theirs > thresholds[1]
    if theirs is None:
        far = np.abs(ours - labels).mean(1)
        drawn = histogram(ours[truth], 0, 1, "probability of a true label", "probability given to each true label")
    else:
        far = np.abs(ours - theirs).mean(1)
        what = "probability of each label: the student's less the teacher's"
        drawn = histogram((ours - theirs).ravel(), -1, 1, "difference of probability", what)
    picked = furthest(far)

    def words(marks: Array) -> str:
        return ", ".join(str(names[n]) for n in np.flatnonzero(marks)[:TOP_LABELS]) or "no label"

    answered = {"ours": said} | ({} if there is None else {"theirs": there})
    return {
        "kind": "multilabel",
        "split": split,
        "rows": len(labels),
        "equal_answers": None if there is None else share((said == there).all(1)),
        "classes": [
            {
                "name": str(name),
                "rows": int(truth[:, n].sum()),
                "threshold": rounded(thresholds[0][n]),
                "ours": one_class(said[:, n], truth[:, n], 1),
                "theirs": None if there is None else one_class(there[:, n], truth[:, n], 1),
            }
            for n, name in enumerate(names)
        ],
        "histogram": drawn,
        "examples": [
            {
                "texts": cut(shown),
                "label": words(truth[row]),
                "said": {who: words(marks[row]) for who, marks in answered.items()},
                "right": {who: bool((marks[row] == truth[row]).all()) for who, marks in answered.items()},
                "ours": top(ours[row], names),
                "theirs": None if theirs is None else top(theirs[row], names),
                "difference": rounded(far[row]),
            }
            for row, shown in zip(picked, texts(picked), strict=True)
        ],
    }


def of_scores(labels: Array, ours: Array, theirs: Array | None, texts: Texts, split: str = "dev") -> dict[str, Any]:
    """labels, ours, theirs (N,) numbers. Rows are chosen by how far the models are apart, or from the truth."""
    reference = labels if theirs is None else theirs
    apart = ours - reference
    widest = max(float(np.abs(apart).max()), 1e-6)
    whose = "the true score" if theirs is None else "the teacher's"
    picked = furthest(np.abs(apart))
    return {
        "kind": "regression",
        "split": split,
        "rows": len(labels),
        "bands": bands(labels, ours, theirs),
        "histogram": histogram(apart, -widest, widest, "difference of scores", f"the model's score less {whose}"),
        "examples": [
            {
                "texts": cut(shown),
                "label": rounded(labels[row]),
                "ours": rounded(ours[row]),
                "theirs": None if theirs is None else rounded(theirs[row]),
                "difference": rounded(apart[row]),
            }
            for row, shown in zip(picked, texts(picked), strict=True)
        ],
    }


def of_vectors(cosine: Array, texts: Texts, which: str) -> dict[str, Any]:
    """cosine (N,) of the student's vector with the teacher's, of each text; `which` says what texts these are."""
    picked = furthest(-cosine)
    return {
        "kind": "vectors",
        "split": which,
        "rows": len(cosine),
        "histogram": histogram(cosine, min(0.0, float(cosine.min())), 1, "cosine", "cosine of student and teacher"),
        "examples": [
            {"texts": cut(shown), "cosine": rounded(cosine[row])}
            for row, shown in zip(picked, texts(picked), strict=True)
        ],
    }


def of_pairs(scores: Array, ours: Array, theirs: Array | None, texts: Texts, split: str = "dev") -> dict[str, Any]:
    """scores (N,) by people; ours, theirs (N,) cosines of the pair's vectors. As Spearman's correlation does, it reads
    ranks alone: rows are chosen by how far the two place a pair apart, or the model from people."""
    reference = place(scores if theirs is None else theirs)
    apart = place(ours) - reference
    picked = furthest(np.abs(apart))
    whose = "by people's scores" if theirs is None else "before"
    return {
        "kind": "pairs",
        "split": split,
        "rows": len(scores),
        "histogram": histogram(apart, -1, 1, "difference of places", f"{A_PAIR}: after training less {whose}"),
        "examples": [
            {
                "texts": cut(shown),
                "label": rounded(scores[row]),
                "ours": rounded(ours[row]),
                "theirs": None if theirs is None else rounded(theirs[row]),
                "difference": rounded(apart[row]),
            }
            for row, shown in zip(picked, texts(picked), strict=True)
        ],
    }


# ---- parts


def softmax(logits: Array) -> Array:
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def centred(logits: Array) -> Array:
    """Less their mean: a number added to all logits of a row changes no probability, and must not change an angle."""
    return logits - logits.mean(1, keepdims=True)


def cosines(a: Array, b: Array) -> Array:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.maximum(lengths, 1e-12)


def place(values: Array) -> Array:
    """(N,) -> the rank of each, from 0 to 1; ties share theirs."""
    from scipy.stats import rankdata

    return (rankdata(values) - 1) / max(1, len(values) - 1)


def histogram(values: Array, low: float, high: float, axis: str, what: str) -> dict[str, Any]:
    """axis: a few words, below the picture; what: the whole of it."""
    counts, _ = np.histogram(np.clip(values, low, high), bins=BINS, range=(low, high))
    return {
        "axis": axis,
        "what": what,
        "low": rounded(low),
        "high": rounded(high),
        "counts": counts.tolist(),
        "mean": rounded(values.mean()),
        "median": rounded(np.median(values)),
    }


def one_class(answers: Array, labels: Array, n: int) -> dict[str, float | None]:
    """None: recall of a class without rows, precision of one that is never answered, F1 of one that is neither."""
    right = int(((answers == n) & (labels == n)).sum())
    answered, there = int((answers == n).sum()), int((labels == n).sum())
    parts = {"recall": (right, there), "precision": (right, answered), "f1": (2 * right, there + answered)}
    return {name: rounded(above / below) if below else None for name, (above, below) in parts.items()}


def bands(labels: Array, ours: Array, theirs: Array | None) -> list[dict[str, Any]]:
    """The mean absolute error among the rows of the lowest true scores, of the next, and so on."""
    found = []
    for rows in np.array_split(np.argsort(labels, kind="stable"), min(BANDS, len(labels))):
        truth = labels[rows]
        found.append(
            {
                "low": rounded(truth.min()),
                "high": rounded(truth.max()),
                "rows": len(rows),
                "ours": rounded(np.abs(ours[rows] - truth).mean()),
                "theirs": None if theirs is None else rounded(np.abs(theirs[rows] - truth).mean()),
            }
        )
    return found


def furthest(values: Array) -> Array:
    return np.argsort(-values, kind="stable")[:EXAMPLES]


def top(probabilities: Array, names: Sequence[str]) -> list[list[Any]]:
    return [[str(names[n]), rounded(probabilities[n])] for n in np.argsort(-probabilities, kind="stable")[:TOP]]


def cut(texts: Sequence[str]) -> list[str]:
    return [text if len(text) <= LONGEST else text[:LONGEST] + " …" for text in texts]


def share(mask: Array) -> float | None:
    return rounded(mask.mean())


def rounded(value: Any) -> float | None:
    """None: not finite, which JSON cannot say."""
    return round(float(value), 5) if np.isfinite(value) else None
