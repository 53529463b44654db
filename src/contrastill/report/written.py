"""Answers that language models wrote: the samples that training keeps of them, and these on the page.

A model is "teacher", "baseline", "student" or "model".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from contrastill.report.run import mapping, number, objects
from contrastill.report.words import METRICS
from contrastill.results import RunResult

__all__ = ["SAMPLES", "answers_to", "diversity", "of_written", "samples", "with_model"]

SAMPLES = 10
KEPT = 2_000  # characters of a text in evidence.json
SHOWN = 600  # characters of a text on the page

Ids = Sequence[int]
DIFFERS = {"end": "the same text, ended elsewhere", "tokens": "the same text in other tokens"}


# ---- what training keeps


def of_written(
    rows: Sequence[Mapping[str, Any]],
    written: Mapping[str, Sequence[Ids]],
    decode: Callable[[Ids], str],
    ends: Collection[int],
    seed: int,
) -> dict[str, Any]:
    """At most `SAMPLES` rows with the answers of all models, ready for JSON; half of them, if there are so many, are
    rows on which the last model and the teacher are not both right or both wrong.

    rows: "prompt" and "answer" of each, token ids. written: model -> its answer to each row; the last one is the
    trained model. ends: ids that end an answer. seed: of the choice of rows.
    """
    given = [list(row["answer"]) for row in rows]
    right = {name: np.array([list(one) == true for one, true in zip(each, given, strict=True)])
             for name, each in written.items()}  # fmt: skip
    ours, theirs = list(written)[-1], written.get("teacher")
    apart = right[ours] != right["teacher"] if theirs is not None else np.zeros(len(rows), bool)

    def sample(row: int) -> dict[str, Any]:
        text = decode(given[row])
        answers = {name: answer(each[row], given[row], text, decode, ends) for name, each in written.items()}
        return {
            "row": row,
            "prompt": cut(decode(rows[row]["prompt"]), KEPT),
            "given": cut(text, KEPT),
            "differ": bool(apart[row]),
            "answers": answers,
        }

    alike = [list(a) == list(b) for a, b in zip(written[ours], theirs, strict=True)] if theirs is not None else None
    return {
        "kind": "language",
        "rows": len(rows),
        "equal_answers": None if alike is None else round(float(np.mean(alike)), 5),
        "differ": int(apart.sum()),
        "samples": [sample(row) for row in chosen(apart, seed)],
    }


def answers_to(
    chosen: Iterable[int],
    rows: Sequence[Mapping[str, Any]],
    said: Sequence[Ids],
    decode: Callable[[Ids], str],
    ends: Collection[int],
) -> list[dict[str, str | bool]]:
    """One model's answers to the chosen rows, as the samples of `of_written` have them. said: those to all rows."""
    given = {n: list(rows[n]["answer"]) for n in chosen}
    return [answer(said[n], true, decode(true), decode, ends) for n, true in given.items()]


def with_model(found: Mapping[str, Any], name: str, answers: Sequence[Any]) -> dict[str, Any]:
    """The evidence of `of_written` with a further model's answers, one a sample, before those of the trained model."""
    kept = objects(found.get("samples"))
    if len(kept) != len(answers):
        return dict(found)
    samples = []
    for one, said in zip(kept, answers, strict=True):
        known = mapping(one.get("answers"))
        last = list(known)[-1:]
        others = {who: known[who] for who in known if who not in (name, *last)}
        samples.append({**one, "answers": {**others, name: said, **{who: known[who] for who in last}}})
    return {**found, "samples": samples}


def chosen(apart: np.ndarray, seed: int) -> list[int]:
    """At most `SAMPLES` rows, those that are apart first: half of them, more only where too few others are there."""
    order = np.random.default_rng(seed).permutation(len(apart))
    some, others = order[apart[order]], order[~apart[order]]
    half = max(SAMPLES // 2, SAMPLES - len(others))
    first = some[:half]
    found: list[int] = [*np.sort(first).tolist(), *np.sort(others[: SAMPLES - len(first)]).tolist()]
    return found


def answer(
    said: Ids, given: Ids, text: str, decode: Callable[[Ids], str], ends: Collection[int]
) -> dict[str, str | bool]:
    """An answer as text, whether it is the given one, and in what it differs where their texts are alike."""
    own, right = decode(said), list(said) == list(given)
    if right or own != text:
        return {"text": cut(own, KEPT), "right": right}
    ended = [bool(ids) and ids[-1] in ends for ids in (said, given)]
    return {"text": cut(own, KEPT), "right": right, "differs": "end" if ended[0] != ended[1] else "tokens"}


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + " …"


# ---- what the page shows


def samples(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The samples of evidence.json: their prompts, and (model, text, right or not, remark) of each answer."""
    kept = [sides(each) for each in objects(found.get("samples"))[:SAMPLES]]
    if not kept:
        return None
    differ = sum(bool(each.get("differ")) for each in objects(found.get("samples"))[:SAMPLES])
    counts = mapping(found.get("unended"))
    ends = {str(name): count for name in counts if (count := number(counts, name)) is not None}
    places = number(dict(found), "new_tokens")
    return {"rows": kept, "differ": differ, "of": number(dict(found), "differ") or 0, "unended": ends, "places": places}


def sides(one: dict[str, Any]) -> dict[str, Any]:
    lines: list[tuple[str, str, bool | None, str]] = [("given answer", shown(one.get("given")), None, "")]
    for name, said in mapping(one.get("answers")).items():
        known = mapping(said)
        right = known.get("right")
        remark = DIFFERS.get(str(known.get("differs")), "")
        lines.append((str(name), shown(known.get("text")), right if isinstance(right, bool) else None, remark))
    return {"prompt": shown(one.get("prompt")), "lines": lines}


def shown(text: Any) -> str:
    """A text of the data, cut for the page; "" where nothing of it would be seen."""
    said = "" if text is None else str(text)
    return cut(said, SHOWN) if said.strip() else ""


def diversity(result: RunResult) -> str:
    """Distinct bigrams of each model's answers to test, else dev, and of the given ones, in a sentence; "" without."""
    where = "test" if any("test" in scores.splits for scores in result.models.values()) else "dev"
    splits = {name: scores.splits.get(where) for name, scores in result.models.items()}
    known = {name: one.metrics["distinct_2"] for name, one in splits.items() if one and "distinct_2" in one.metrics}
    if not known:
        return ""
    given = result.yardsticks.get(f"{where} distinct_2")
    said = [f"{name} {value:.4f}" for name, value in known.items()]
    said += [] if given is None else [f"given answers {given:.4f}"]
    return f"Distinct bigrams on {where}: {', '.join(said)}. This is {METRICS['distinct_2']}"
