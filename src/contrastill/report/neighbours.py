"""The record of an embedding run for its page: texts with their nearest neighbours, and pairs with their ranks.

N texts or pairs, D width. `texts` gives the texts of the rows whose numbers it gets. Everything returned is ready for
JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from contrastill.report.evidence import EXAMPLES, Texts, cut, rounded
from contrastill.results import HELD_OUT_PAIRS

__all__ = ["HELD_OUT_PAIRS", "nearest", "of_neighbours", "of_ranks", "ranked", "ranks_of", "shared"]

SHOWN = 6  # texts that are shown with their neighbours
NEAREST = 3  # neighbours of each
PLACES = 10  # pairs that are shown, from most to least alike
WITHIN = (1, 3, 10)

Array = np.ndarray[Any, Any]


def nearest(vectors: Array, near: int) -> Array:
    """(N, D) unit vectors -> (N, near): the rows most like each, itself left out, the nearest first."""
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -2.0)
    return np.argsort(-alike, axis=1, kind="stable")[:, :near]


def shared(ours: Array, theirs: Array) -> Array:
    """(N, K), (N, K) neighbours -> (N,): the share of theirs that are among ours."""
    return (ours[:, :, None] == theirs[:, None, :]).any(1).mean(1)


def of_neighbours(ours: Array, theirs: Array, texts: Texts) -> dict[str, Any]:
    """ours, theirs: (N, K) neighbours of each text. Texts are drawn at random, so that they represent the others."""
    drawn = np.random.default_rng(0).permutation(len(ours))[:SHOWN]
    wanted = np.unique(np.concatenate([drawn, ours[drawn, :NEAREST].ravel(), theirs[drawn, :NEAREST].ravel()]))
    known = dict(zip(wanted.tolist(), (cut(list(each))[0] for each in texts(wanted)), strict=True))
    return {
        "near": ours.shape[1],
        "texts": len(ours),
        "examples": [
            {
                "text": known[row],
                "theirs": [[known[n], n in ours[row]] for n in theirs[row, :NEAREST].tolist()],
                "ours": [[known[n], n in theirs[row]] for n in ours[row, :NEAREST].tolist()],
                "shared": int(np.isin(ours[row], theirs[row]).sum()),
            }
            for row in drawn.tolist()
        ],
    }


def ranks_of(firsts: Array, seconds: Array, texts: tuple[Sequence[str], Sequence[str]]) -> tuple[Array, Array]:
    """(N, D) unit vectors of both sides -> (N,) each: the rank of a first text's own second text among all second
    texts, and the number of the one ranked first.

    texts: (N,) of both sides. Equal texts count as one, and neither the first text itself nor another text that is
    paired with it stands before its own.
    """
    alike, rows = firsts @ seconds.T, np.arange(len(firsts))
    number = np.unique(np.concatenate([np.asarray(side, object).astype(str) for side in texts]), return_inverse=True)[1]
    first, second = number[: len(rows)], number[len(rows) :]
    paired = np.eye(number.max() + 1, dtype=bool)
    paired[first, second] = paired[second, first] = True
    own = alike[rows, rows]
    alike = np.where(paired[first[:, None], second], -np.inf, alike)
    once = np.unique(second, return_index=True)[1]
    alike[rows, rows] = own
    ranks = 1 + (alike[:, once] > own[:, None]).sum(1)
    return ranks, alike.argmax(1)


def of_ranks(
    after: tuple[Array, Array], before: tuple[Array, Array] | None, texts: Texts, which: str
) -> dict[str, Any]:
    """after, before: ranks and what is ranked first, as `ranks_of` gives them. texts: (first, second) of the rows."""
    ranks, found = after
    choice = len({pair[1] for pair in texts(np.arange(len(ranks)))})
    rows = np.argsort(-ranks, kind="stable")[:EXAMPLES]
    shown = dict(zip(rows.tolist(), texts(rows), strict=True))
    instead = [pair[1] for pair in texts(found[rows])]
    sides = {"ours": ranks} | ({} if before is None else {"theirs": before[0]})
    return {
        "kind": "ranks",
        "split": which,
        "rows": len(ranks),
        "choice": choice,
        "within": [
            {
                "rank": within,
                "chance": rounded(min(1.0, within / choice)),
                **{who: rounded((each <= within).mean()) for who, each in sides.items()},
            }
            for within in WITHIN
        ],
        "examples": [
            {
                "texts": cut(shown[row]),
                "ours": int(ranks[row]),
                "theirs": None if before is None else int(before[0][row]),
                "first": None if ranks[row] == 1 else cut([first])[0],
            }
            for row, first in zip(rows.tolist(), instead, strict=True)
        ],
    }


def ranked(cosines: Array, scores: Array, texts: Texts) -> list[dict[str, Any]]:
    """Pairs from most to least similar by the model, evenly spread over its order, with people's scores."""
    order = np.argsort(-cosines, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(PLACES, len(order))).round().astype(int))
    rows = order[places]
    return [
        {"texts": cut(shown), "place": int(place) + 1, "cosine": rounded(cosines[row]), "label": rounded(scores[row])}
        for place, row, shown in zip(places, rows, texts(rows), strict=True)
    ]
