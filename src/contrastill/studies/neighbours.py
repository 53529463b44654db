"""Nearest texts by cosine, their correctness, and their overlap between two models.

Q queries, N texts, D numbers a vector, K hits.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TOP, SHOWN, EXAMPLES = 10, 3, 3

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts and the class of each: what is searched, or what is asked."""

    texts: list[str]
    labels: Array


def nearest(queries: Tensor, index: Tensor, k: int) -> Array:
    """(Q, D), (N, D), unit vectors -> the rows (Q, K) of the texts of highest cosine, highest first."""
    hits = [(some @ index.T).topk(min(k, len(index)), dim=1).indices for some in queries.split(1024)]
    return torch.cat(hits).numpy()


def voted(labels: Array) -> Array:
    """The commonest label of each query's hits, (Q, K) -> (Q,); of equally common ones the nearest hit's."""
    votes = (labels[:, :, None] == labels[:, None, :]).sum(2)
    return labels[np.arange(len(labels)), votes.argmax(1)]


def overlap(ours: Array, theirs: Array) -> float:
    """The share of their hits (Q, K) that are also ours, whatever the order."""
    return float((ours[:, :, None] == theirs[:, None, :]).any(1).mean())


def cut(vectors: Tensor, width: int) -> Tensor:
    """The first `width` numbers of each, as SentenceTransformer(truncate_dim=width) gives them."""
    return nn.functional.normalize(vectors[:, :width], dim=-1)


def score_all(
    vectors: dict[str, tuple[Tensor, Tensor]], index: Texts, queries: Texts, width: int
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """A row for each model, whole and cut to `width`; and the hits (Q, K) of each row."""
    from contrastill.evaluation import bootstrap_interval

    rows: list[dict[str, Any]] = []
    found: dict[str, Array] = {}
    for of, (there, asked) in vectors.items():
        full = there.shape[1]
        for wide in (full, width) if width < full and of in ("teacher", "student") else (full,):
            name = of if wide == full else f"{of}, first {wide}"
            hits = found[name] = nearest(cut(asked, wide), cut(there, wide), TOP)
            first = index.labels[hits[:, 0]]
            accuracy = float((first == queries.labels).mean())
            rows.append(
                {
                    "name": name,
                    "of": of,
                    "width": wide,
                    "index_mb": len(there) * wide * 4 / 1e6,
                    "nearest": accuracy,
                    "interval": bootstrap_interval(*as_answers(first, queries), "accuracy"),
                    "kept": accuracy / rows[0]["nearest"] if rows and rows[0]["nearest"] else 1.0,
                    "top10": float((voted(index.labels[hits]) == queries.labels).mean()),
                    "overlap": overlap(hits, found["teacher"]),
                }
            )
    return sorted(rows, key=lambda row: row["name"] not in vectors), found  # the whole ones first


def difference(found: dict[str, Array], index: Texts, queries: Texts) -> list[float]:
    """Student less teacher, with its interval: both on the same resampled queries."""
    from contrastill.evaluation import paired_bootstrap

    ours, theirs = (as_answers(index.labels[found[name][:, 0]], queries)[0] for name in ("student", "teacher"))
    return list(paired_bootstrap(ours, theirs, queries.labels, "accuracy"))


def as_answers(labels: Array, queries: Texts) -> tuple[Array, Array]:
    """Labels (Q,) as the logits (Q, C) of a classifier that is sure of itself; and the right ones."""
    classes = max(int(labels.max()), int(queries.labels.max()), 1) + 1
    return np.eye(classes)[labels], queries.labels


def examples(
    vectors: dict[str, tuple[Tensor, Tensor]], found: dict[str, Array], index: Texts, queries: Texts
) -> list[dict[str, Any]]:
    """Queries from all over the test texts, not chosen by what was found, with the best hits of both."""
    total = len(queries.texts)
    return [
        {
            "query": queries.texts[row],
            "hits": {
                name: [
                    {
                        "text": plain(index.texts[hit]),
                        "cosine": round(float(asked[row] @ there[hit]), 3),
                        "right": bool(index.labels[hit] == queries.labels[row]),
                    }
                    for hit in found[name][row, :SHOWN]
                ]
                for name, (there, asked) in vectors.items()
            },
        }
        for row in sorted({(2 * n + 1) * total // (2 * EXAMPLES) for n in range(EXAMPLES)})
    ]


def plain(text: str) -> str:
    """On one line."""
    return " ".join(text.split())
