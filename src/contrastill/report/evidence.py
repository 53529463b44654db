"""The record of a run's answers for its page: counts, shares and a few examples, however many rows there are.

N rows, C classes; "ours" is the trained model, "theirs" its teacher, or the model before training. `texts` gives the
texts of the rows whose numbers it gets. Everything returned is ready for JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["EXAMPLES", "of_classes", "of_labels", "of_pairs", "of_scores", "of_spans", "of_vectors"]

EXAMPLES = 20  # rows that are shown
LONGEST = 600  # characters of a text that are shown
BINS = 100
TOP = 3  # answers of a model that are shown
TOP_LABELS = 12  # labels of a row that are shown
CONFUSIONS = 20  # wrong answers that are listed
BANDS = 5  # of the true scores, lowest to highest

A_PAIR = "a pair's place among all, from 0 to 1"

Array = np.ndarray[Any, Any]
Texts = Callable[[Array], Sequence[Sequence[str]]]


def of_classes(labels: Array, ours: Array, theirs: Array | None, names: Sequence[str], texts: Texts) -> dict[str, Any]:
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
    probabilities = {"ours": p} | ({} if q is None else {"theirs": q})
    classes = np.arange(len(names))
    marks = {who: each.argmax(1)[:, None] == classes for who, each in probabilities.items()}
    found = of_answers("classification", labels[:, None] == classes, marks, probabilities, names, far, drawn, texts)
    return {**found, "confusions": confusions(labels, ours, theirs, names)}


def of_labels(
    labels: Array,
    ours: Array,
    theirs: Array | None,
    names: Sequence[str],
    thresholds: tuple[Array, Array],
    texts: Texts,
) -> dict[str, Any]:
    """labels (N, C) of 0 and 1; ours, theirs (N, C) probabilities; thresholds (C,) of each model. Rows are chosen by
    the mean distance of the probabilities; without a teacher, from the labels."""
    truth = labels > 0.5
    if theirs is None:
        far = np.abs(ours - labels).mean(1)
        drawn = histogram(ours[truth], 0, 1, "probability of a true label", "probability given to each true label")
    else:
        far = np.abs(ours - theirs).mean(1)
        what = "probability of each label: the student's less the teacher's"
        drawn = histogram((ours - theirs).ravel(), -1, 1, "difference of probability", what)
    probabilities = {"ours": ours} | ({} if theirs is None else {"theirs": theirs})
    marks = {who: each > limits for (who, each), limits in zip(probabilities.items(), thresholds, strict=False)}
    return of_answers("multilabel", truth, marks, probabilities, names, far, drawn, texts, thresholds[0])


def of_answers(
    kind: str,
    truth: Array,
    marks: dict[str, Array],
    probabilities: dict[str, Array],
    names: Sequence[str],
    far: Array,
    drawn: dict[str, Any],
    texts: Texts,
    thresholds: Array | None = None,
) -> dict[str, Any]:
    """truth (N, C) bool; marks and probabilities (N, C) of "ours" and, if there is a teacher, of "theirs": the classes
    that are answered. thresholds (C,): of several labels a row, whose answers are listed in words."""
    theirs = marks.get("theirs")

    def words(row: Array) -> str:
        return ", ".join(str(names[n]) for n in np.flatnonzero(row)[:TOP_LABELS]) or "no label"

    def example(row: int) -> dict[str, Any]:
        return {
            "label": words(truth[row]),
            **({} if thresholds is None else {"said": {who: words(each[row]) for who, each in marks.items()}}),
            "right": {who: bool((each[row] == truth[row]).all()) for who, each in marks.items()},
            "ours": top(probabilities["ours"][row], names),
            "theirs": None if theirs is None else top(probabilities["theirs"][row], names),
            "difference": rounded(far[row]),
        }

    return {
        "kind": kind,
        "split": "dev",
        "rows": len(truth),
        "equal_answers": None if theirs is None else rounded((marks["ours"] == theirs).all(1).mean()),
        "classes": [
            {
                "name": str(name),
                "rows": int(truth[:, n].sum()),
                **({} if thresholds is None else {"threshold": rounded(thresholds[n])}),
                "ours": one_class(marks["ours"][:, n], truth[:, n]),
                "theirs": None if theirs is None else one_class(theirs[:, n], truth[:, n]),
            }
            for n, name in enumerate(names)
        ],
        "histogram": drawn,
        "examples": furthest(far, texts, example),
    }


def of_spans(
    labels: Array,
    ours: Array,
    theirs: Array | None,
    our_spans: Sequence[Sequence[Any]],
    their_spans: Sequence[Sequence[Any]] | None,
    names: Sequence[str],
    texts: Texts,
) -> dict[str, Any]:
    """labels: (entities, 3) of each text: start, end, type's number; ours, theirs: of each text the probabilities of
    its units' tags (`spans.Tagged`), and the spans that follow. Rows are chosen by how far the probabilities of their
    units are apart; without a teacher, by how many entities are wrong."""
    spans = {"ours": our_spans} | ({} if their_spans is None else {"theirs": their_spans})
    truth = [{(int(a), int(b), names[int(kind)]) for a, b, kind in label} for label in labels]
    said = {who: [{span[:3] for span in found} for found in each] for who, each in spans.items()}
    wrong = np.array([len(a ^ b) for a, b in zip(said["ours"], truth, strict=True)], np.float64)
    if theirs is None:
        scores = [span.score for found in our_spans for span in found] or [0.0]
        drawn = histogram(np.array(scores), 0, 1, "confidence", "confidence of each entity that is answered")
        far = wrong
    else:
        alike = [
            len(a.starts) == len(b.starts) and (a.starts == b.starts).all() for a, b in zip(ours, theirs, strict=True)
        ]
        apart = [  # two tokenizers may read other words
            np.abs(a.values - b.values).sum(1) / 2 if same else np.zeros(0)
            for a, b, same in zip(ours, theirs, alike, strict=True)
        ]
        what = (
            "distance of student and teacher at each word: half the sum of the differences of its tags' probabilities"
        )
        drawn = histogram(np.concatenate([*apart, np.zeros(0)]), 0, 1, "distance", what)
        differ = np.array([len(a ^ b) for a, b in zip(said["ours"], said["theirs"], strict=True)])
        far = differ + np.array([float(one.sum()) / (1 + float(one.sum())) for one in apart])

    def words(row: int, found: Iterable[tuple[int, int, str]]) -> str:
        text = ours[row].text
        listed = [f"{text[start:end]} ({kind})" for start, end, kind in sorted(found)]
        return "; ".join([*listed[:TOP_LABELS], *(["…"] if len(listed) > TOP_LABELS else [])]) or "no entity"

    def example(row: int) -> dict[str, Any]:
        return {
            "label": words(row, truth[row]),
            "said": {who: words(row, each[row]) for who, each in said.items()},
            "right": {who: each[row] == truth[row] for who, each in said.items()},
            "ours": [],
            "theirs": None if theirs is None else [],
            "difference": rounded(far[row]),
        }

    def of_type(who: str, name: str) -> dict[str, float | None]:
        pairs = [
            ({s for s in found if s[2] == name}, {s for s in true if s[2] == name})
            for found, true in zip(said[who], truth, strict=True)
        ]
        return shares(*(sum(map(len, each)) for each in zip(*((a & b, a, b) for a, b in pairs), strict=True)))

    return {
        "kind": "tagging",
        "split": "dev",
        "rows": len(truth),
        "equal_answers": None
        if theirs is None
        else rounded(np.mean([a == b for a, b in zip(said["ours"], said["theirs"], strict=True)])),
        "classes": [
            {
                "name": str(name),
                "rows": sum(s[2] == name for true in truth for s in true),
                "ours": of_type("ours", name),
                "theirs": None if theirs is None else of_type("theirs", name),
            }
            for name in names
        ],
        "confusions": span_confusions(truth, said),
        "histogram": drawn,
        "examples": furthest(far, texts, example),
    }


NOTHING, BOUNDS = "nothing", "other bounds"
"""In place of a type: there is no entity there; the type is right, start or end is not."""


def span_confusions(truth: Sequence[set[Any]], said: Mapping[str, Sequence[set[Any]]]) -> list[dict[str, Any]]:
    """The commonest mistakes of ours: a true type, what was answered in its place, and how often by each model."""
    counts = {
        who: Counter(pair for a, b in zip(truth, each, strict=True) for pair in mistakes(a, b))
        for who, each in said.items()
    }
    there = Counter(kind for true in truth for _, _, kind in true)
    return [
        {
            "label": label,
            "answer": answer,
            "rows": None if label == NOTHING else there[label],
            "ours": count,
            "theirs": counts["theirs"][label, answer] if "theirs" in counts else None,
        }
        for (label, answer), count in counts["ours"].most_common(CONFUSIONS)
    ]


def mistakes(true: set[Any], said: set[Any]) -> Iterator[tuple[str, str]]:
    """(true type, answer) for each wrong one: by the answer that a true entity overlaps most, else `NOTHING`."""
    met = set()
    for start, end, kind in sorted(true - said):
        overlaps = [(min(end, b) - max(start, a), (a, b, other)) for a, b, other in said if a < end and b > start]
        if not overlaps:
            yield kind, NOTHING
            continue
        _, answer = max(overlaps)
        met.add(answer)
        yield kind, BOUNDS if answer[2] == kind else answer[2]
    for answer in sorted(said - true - met):
        if not any(a < answer[1] and b > answer[0] for a, b, _ in true):
            yield NOTHING, answer[2]


def of_scores(labels: Array, ours: Array, theirs: Array | None, texts: Texts) -> dict[str, Any]:
    """labels, ours, theirs (N,) numbers. Rows are chosen by how far the models are apart, or from the truth."""
    apart = ours - (labels if theirs is None else theirs)
    widest = max(float(np.abs(apart).max()), 1e-6)
    whose = "the true score" if theirs is None else "the teacher's"
    drawn = histogram(apart, -widest, widest, "difference of scores", f"the model's score less {whose}")
    found = of_numbers("regression", labels, ours, theirs, apart, drawn, texts)
    return {**found, "bands": bands(labels, ours, theirs)}


def of_pairs(scores: Array, ours: Array, theirs: Array | None, texts: Texts) -> dict[str, Any]:
    """scores (N,) by people; ours, theirs (N,) cosines of the pair's vectors. As Spearman's correlation does, it reads
    ranks alone: rows are chosen by how far the two place a pair apart, or the model from people."""
    apart = place(ours) - place(scores if theirs is None else theirs)
    whose = "by people's scores" if theirs is None else "before"
    drawn = histogram(apart, -1, 1, "difference of places", f"{A_PAIR}: after training less {whose}")
    return of_numbers("pairs", scores, ours, theirs, apart, drawn, texts)


def of_numbers(
    kind: str, labels: Array, ours: Array, theirs: Array | None, apart: Array, drawn: dict[str, Any], texts: Texts
) -> dict[str, Any]:
    """labels, ours, theirs and how far they are apart: (N,) each."""

    def example(row: int) -> dict[str, Any]:
        return {
            "label": rounded(labels[row]),
            "ours": rounded(ours[row]),
            "theirs": None if theirs is None else rounded(theirs[row]),
            "difference": rounded(apart[row]),
        }

    examples = furthest(np.abs(apart), texts, example)
    return {"kind": kind, "split": "dev", "rows": len(labels), "histogram": drawn, "examples": examples}


def of_vectors(cosine: Array, texts: Texts, which: str) -> dict[str, Any]:
    """cosine (N,) of the student's vector with the teacher's, of each text; `which` says what texts these are."""
    return {
        "kind": "vectors",
        "split": which,
        "rows": len(cosine),
        "histogram": histogram(cosine, min(0.0, float(cosine.min())), 1, "cosine", "cosine of student and teacher"),
        "examples": furthest(-cosine, texts, lambda row: {"cosine": rounded(cosine[row])}),
    }


# ---- parts


def softmax(logits: Array) -> Array:
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def centred(logits: Array) -> Array:
    """Subtracts each row's mean: a number added to all logits changes no probability, and must not change an angle."""
    return logits - logits.mean(1, keepdims=True)


def cosines(a: Array, b: Array) -> Array:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.maximum(lengths, 1e-12)


def place(values: Array) -> Array:
    """(N,) -> the rank of each, from 0 to 1; ties share theirs."""
    from scipy.stats import rankdata

    return (rankdata(values) - 1) / max(1, len(values) - 1)


def histogram(values: Array, low: float, high: float, axis: str, what: str) -> dict[str, Any]:
    """axis: a short label below the picture; what: the full description."""
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


def one_class(answers: Array, truth: Array) -> dict[str, float | None]:
    """None: recall of a class without rows, precision of one that is never answered, F1 of one that is neither."""
    return shares(int((answers & truth).sum()), int(answers.sum()), int(truth.sum()))


def shares(right: int, answered: int, there: int) -> dict[str, float | None]:
    """Recall, precision and F1 of counts; None where nothing is below."""
    parts = {"recall": (right, there), "precision": (right, answered), "f1": (2 * right, there + answered)}
    return {name: rounded(above / below) if below else None for name, (above, below) in parts.items()}


def confusions(labels: Array, ours: Array, theirs: Array | None, names: Sequence[str]) -> list[dict[str, Any]]:
    """The commonest wrong answers of ours: a label, the answer in its place, and how often each model gives it."""
    answers, others = ours.argmax(1), None if theirs is None else theirs.argmax(1)
    wrong = labels != answers
    pairs, counts = np.unique(np.stack([labels[wrong], answers[wrong]], 1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:CONFUSIONS]
    return [
        {
            "label": str(names[label]),
            "answer": str(names[answer]),
            "rows": int((labels == label).sum()),
            "ours": int(count),
            "theirs": None if others is None else int(((labels == label) & (others == answer)).sum()),
        }
        for (label, answer), count in zip(pairs[order], counts[order], strict=True)
    ]


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


def furthest(values: Array, texts: Texts, about: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the largest values: their texts, and `about` of each."""
    rows = np.argsort(-values, kind="stable")[:EXAMPLES]
    return [{"texts": cut(shown), **about(row)} for row, shown in zip(rows, texts(rows), strict=True)]


def top(probabilities: Array, names: Sequence[str]) -> list[list[Any]]:
    return [[str(names[n]), rounded(probabilities[n])] for n in np.argsort(-probabilities, kind="stable")[:TOP]]


def cut(texts: Sequence[str]) -> list[str]:
    return [text if len(text) <= LONGEST else text[:LONGEST] + " …" for text in texts]


def rounded(value: Any) -> float | None:
    """None for a number that is not finite, which JSON cannot hold."""
    return round(float(value), 5) if np.isfinite(value) else None
