"""The models' answers: classes lost and won, distances between answers, and the most telling rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrastill.report import charts, figures
from contrastill.report.charts import Chart
from contrastill.report.record import plain
from contrastill.report.run import RunFiles, dig, mapping, number, objects
from contrastill.report.written import samples
from contrastill.results import HELD_OUT_PAIRS

__all__ = ["MOST_CLASSES", "evidence", "histogram"]

CHOICES = ("classification", "multilabel", "tagging")  # answers that are names
MOST_CLASSES = 10  # largest losses, and largest gains
MOST_CONFUSIONS = 20


def evidence(run: RunFiles) -> dict[str, Any] | None:
    found = run.evidence
    if found.get("kind") not in (*CHOICES, "regression", "vectors", "pairs", "ranks", "language"):
        return None
    examples = objects(found.get("examples"))
    names = {
        "ours": "after" if run.command == "contrast" else "student" if "student" in run.result.models else "model",
        "theirs": "before" if run.command == "contrast" else "teacher",
    }
    return {
        **names,
        "kind": found["kind"],
        "split": str(found.get("split", "dev")),
        "rows": number(found, "rows") or 0,
        "both": found["kind"] != "vectors" and beside(found),
        "equal_answers": number(found, "equal_answers"),
        "classes": classes(found),
        "confusions": confusions(found),
        "neighbours": neighbours(found),
        "ranked": [place(each) for each in objects(found.get("ranked"))],
        "within": [within(each) for each in objects(found.get("within"))],
        "choice": number(found, "choice"),
        "learnt": found.get("split") != HELD_OUT_PAIRS,
        "bands": [band(each) for each in objects(found.get("bands"))],
        "examples": [example(each, found["kind"], names) for each in examples],
        "histogram": histogram([(None, run)]),
        "samples": samples(found),
    }


def example(one: dict[str, Any], kind: str, names: dict[str, str]) -> dict[str, Any]:
    """An example row: its texts, and (who, answer, right or not, other answers) for each model and the label."""
    texts = one.get("texts")
    lines: list[tuple[str, str, bool | None, str]] = []
    if kind == "vectors":
        lines.append(("cosine", figure(one, "cosine"), None, ""))
    elif kind == "ranks":
        before, after = (number(one, who) for who in ("theirs", "ours"))
        ranks = [f"{rank:,.0f} {when}" for when, rank in (("before", before), ("after", after)) if rank is not None]
        lines.append(("rank", " · ".join(ranks), None, ""))
        lines += [("found first instead", str(one["first"]), None, "")] if one.get("first") is not None else []
    else:
        lines.append(("people" if kind == "pairs" else "true", plain(one.get("label")), None, ""))
    for side in ("theirs", "ours"):
        if kind in ("regression", "pairs") and one.get(side) is not None:
            lines.append((names[side], figure(one, side), None, ""))
        answers = one.get(side) if kind in CHOICES else None
        pairs = [each for each in answers if isinstance(each, list)] if isinstance(answers, list) else []
        shares = [(str(each[0]), number(each[1]) or 0) for each in pairs if len(each) == 2]
        said = [f"{name} {100 * share:.0f}\u00a0%" for name, share in shares if share >= 0.01]
        several = dig(one, "said", side)  # the labels that were answered; else the likeliest class is
        if several is not None or said:
            answer, others = (str(several), said) if several is not None else (said[0], said[1:])
            lines.append((names[side], answer, bool(dig(one, "right", side)), ", ".join(others)))
    place = number(one, "difference")
    if kind == "pairs" and place is not None:
        lines.append(("place", figures.signed(place), None, "of the ranking from least to most similar"))
    shown = [str(text).strip() or "(empty)" for text in texts] if isinstance(texts, list) else []
    return {"texts": shown, "lines": lines}


def neighbours(found: dict[str, Any]) -> dict[str, Any] | None:
    """Texts with their nearest neighbours by teacher and by student, and whether the other model finds each one too."""
    known = mapping(found.get("neighbours"))

    def near(value: Any) -> list[tuple[str, bool]]:
        pairs = [each for each in value if isinstance(each, list) and len(each) == 2] if isinstance(value, list) else []
        return [(str(text).strip() or "(empty)", bool(also)) for text, also in pairs]

    examples = [
        {
            "text": str(each.get("text")).strip() or "(empty)",
            "sides": [("teacher", near(each.get("theirs"))), ("student", near(each.get("ours")))],
            "shared": plain(each.get("shared")),
        }
        for each in objects(known.get("examples"))
    ]
    return {"near": plain(known.get("near")), "examples": examples} if examples else None


def place(one: dict[str, Any]) -> dict[str, Any]:
    """A pair with its rank by the model and its score by people."""
    texts = one.get("texts")
    shown = [str(text).strip() or "(empty)" for text in texts] if isinstance(texts, list) else []
    return {"texts": shown, **{key: plain(one.get(key)) for key in ("place", "label")}, "cosine": figure(one, "cosine")}


def within(one: dict[str, Any]) -> dict[str, str]:
    shares = {key: number(one, key) for key in ("ours", "theirs", "chance")}
    said = {key: "–" if share is None else figures.percent(share) for key, share in shares.items()}
    return {"rank": plain(one.get("rank")), **said}


def band(one: dict[str, Any]) -> dict[str, str]:
    low, high = (number(one, end) for end in ("low", "high"))
    known = {key: figure(one, key) for key in ("ours", "theirs")}
    name = "–" if low is None or high is None else f"{low:.3g} to {high:.3g}"
    return {"name": name, "rows": plain(one.get("rows")), **known}


def figure(found: dict[str, Any], key: str) -> str:
    value = number(found, key)
    return "–" if value is None else f"{value:.3f}"


def classes(found: dict[str, Any]) -> dict[str, Any] | None:
    """Classes by the difference of the student's F1 from the teacher's; without a teacher by F1, the lowest first."""
    rows = objects(found.get("classes"))
    if not rows:
        return None
    table: list[dict[str, Any]] = []
    for each in rows:
        ours, theirs = number(each, "ours", "f1"), number(each, "theirs", "f1")
        table.append(
            {
                "name": str(each.get("name")),
                "rows": number(each, "rows") or 0,
                "threshold": number(each, "threshold"),
                **{f"{who}_{what}": number(each, who, what) for who in ("ours", "theirs") for what in ("recall", "f1")},
                "change": None if ours is None or theirs is None else ours - theirs,
            }
        )
    compared = any(row["change"] is not None for row in table)
    key = "change" if compared else "ours_f1"
    known = sorted((row for row in table if row[key] is not None), key=lambda row: row[key])
    unknown = [row for row in table if row[key] is None]
    losses = [row for row in known if row[key] < 0] if compared else known
    gains = [row for row in reversed(known) if row[key] > 0] if compared else []
    return {
        "compared": compared,
        "losses": losses[:MOST_CLASSES],
        "gains": gains[:MOST_CLASSES],
        "lost": len(losses),
        "won": len(gains),
        "alike": len(known) - len(losses) - len(gains),
        "all": [*known, *unknown],
        "thresholds": any(row["threshold"] is not None for row in table),
        "absent": [row["name"] for row in table if not row["rows"]],
        "widest": max((abs(row["change"]) for row in known), default=0) if compared else 1,
    }


def confusions(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The commonest wrong answers; counts in whole numbers, None where they are not known."""
    return [
        {
            **{name: str(each.get(name)) for name in ("label", "answer")},
            **{name: None if (n := number(each, name)) is None else int(n) for name in ("rows", "ours", "theirs")},
        }
        for each in objects(found.get("confusions"))[:MOST_CONFUSIONS]
    ]


def beside(found: dict[str, Any]) -> bool:
    """Whether there are answers to compare with: the teacher's, or those before training."""
    return found.get("kind") == "vectors" or any(
        each.get("theirs") is not None for each in objects(found.get("examples"))
    )


def histogram(runs: Sequence[tuple[str | None, RunFiles]]) -> Chart | None:
    """Histogram of the rows of one run, or of several that measure the same."""
    drawn: list[tuple[str, int, list[float]]] = []
    said: list[str] = []
    first: dict[str, Any] = {}
    for group, (name, run) in enumerate(runs):
        found = mapping(run.evidence.get("histogram"))
        kept = dig(found, "counts")
        known = [n for n in map(number, kept) if n is not None] if isinstance(kept, list) else []
        if not known or len(known) < len(kept) or None in (number(found, "low"), number(found, "high")):
            continue
        first = first or found
        same = all(found.get(key) == first.get(key) for key in ("what", "low", "high"))
        if same and len(known) == len(first["counts"]):
            drawn.append((name or "", group, known))
            middle, mean = number(found, "median"), number(found, "mean")
            if middle is not None and mean is not None:
                said.append((f"{name}: " if name else "") + f"median {middle:.3f}, mean {mean:.3f}")
    low, high, what = number(first, "low"), number(first, "high"), str(first.get("what", ""))
    if low is None or high is None or low >= high or (len(runs) > 1 and len(drawn) < 2):
        return None
    counts = [(group, known) for _, group, known in drawn]
    alt = "; ".join(said) or what
    picture = charts.histogram(low, high, counts, str(first.get("axis", "")), alt, number(first, "median"))
    note = f"{what[:1].upper()}{what[1:]}" + (f": {alt} (dashed: the median)." if len(drawn) == 1 and said else ".")
    apart = any(beside(run.evidence) for _, run in runs)
    title = "How far apart the answers are" if apart else "How far the answers are from the truth"
    return Chart(title, picture, note, key=charts.key([(name, group) for name, group, _ in drawn]))
