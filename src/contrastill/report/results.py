"""Every model that a run has measured: score, share of the teacher's score, size and speed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contrastill import results
from contrastill.report.figures import PERCENT, WORDS, percent, signed
from contrastill.report.latency import bounds, with_speed
from contrastill.report.model import Model, Score, alike, ratio_of
from contrastill.report.paired import answers_of, difference
from contrastill.report.run import RunFiles, dig, mapping, number

__all__ = [
    "against_baseline",
    "against_teacher",
    "gate_of",
    "headline",
    "in_points",
    "models",
    "name_of",
    "rows_scored",
    "verdict",
]

COMPARED_WITH = ("teacher", "before")
KINDS = {name: name for name in COMPARED_WITH} | dict.fromkeys(results.YARDSTICKS, "yardstick")
SAME_SCORE = 0.005  # a gate scores the student again, on other threads or another machine


def models(run: RunFiles, gate: Score | None = None) -> list[Model]:
    """Teacher and yardsticks first, then what was trained, then each bundle exported from it. Unfinished run: none.

    Scores are on the rows of the headline. gate: which score is `checked`; by default the one of the run's own bundles.
    """
    if not run.scored:
        return []
    known, gate, (wanted, _) = trained_scores(run), gate or gate_of(run), verdict(run)
    found = []
    for name, scores in known.items():
        parameters = run.result.size_of(name, "parameters")
        if not scores and parameters is None:
            continue  # a teacher that is a file of vectors
        score = like(wanted, scores) or next(iter(scores), None)
        found.append(
            Model(
                name,
                KINDS.get(name, "trained"),
                score,
                like(gate, scores),
                kept=ratio_of(score, like(score, compared_with(known))) if name != "before" else None,
                parameters=parameters,
                size_mb=run.result.size_of(name, "size_mb"),
                beside=() if score is None else tuple(one for one in scores if is_beside(one, score)),
            )
        )
    return with_speed(run, [*found, *bundles_of(run)])


def compared_with(known: dict[str, list[Score]]) -> list[Score]:
    """The scores of the teacher, or of the model before; none if there is neither, or nothing beside it."""
    return next((scores for name, scores in known.items() if name in COMPARED_WITH and len(known) > 1), [])


def like(wanted: Score | None, scores: Sequence[Score]) -> Score | None:
    """The first score of the same metric on the same rows."""
    return next((score for score in scores if wanted and alike(score, wanted)), None)


def is_beside(one: Score, main: Score) -> bool:
    """Whether a score is of another metric on the same rows, with an interval of its own."""
    return one.where == main.where and one.metric != main.metric and one.low is not None


def bundles_of(run: RunFiles) -> list[Model]:
    known = trained_scores(run)
    ours = next(reversed(known.values()), [])
    found = [exported(bundle, ours, known.get("teacher", [])) for bundle in run.bundles]
    names = [model.name for model in found]
    return [
        model if names.count(model.name) == 1 else replace(model, name=f"{model.name} ({bundle['path']})")
        for model, bundle in zip(found, run.bundles, strict=True)
    ]


def gate_of(run: RunFiles) -> Score | None:
    """The first score of a bundle's gate that is on rows which the run was scored on too."""
    ours = next(reversed(trained_scores(run).values()), [])
    return next((b.checked for b in bundles_of(run) if b.checked and like(b.checked, ours)), None)


def trained_scores(run: RunFiles) -> dict[str, list[Score]]:
    """Every score of the teacher (or of the model before) and of what was trained, the one that says most first."""
    return {
        name: [in_words(score) for score in scores if not score.hundred or score.where in ("mean", "dev")]
        for name, scores in run.result.columns.items()
    }


def in_words(score: results.Score) -> Score:
    """A score of metrics.json as the page shows it."""
    metric, where = score.metric, score.where
    if score.hundred:
        mean = where == "mean"
        metric, where = ("mean " if mean else "") + "Spearman × 100", "the STS sets" if mean else where
    elif score.rows is None:
        where = "dev" if metric == "spearman" else "texts held out"
    return Score(score.value, metric, where, score.rows, score.low, score.high, score.hundred)


def exported(bundle: dict[str, Any], ours: list[Score], teacher: list[Score]) -> Model:
    """A bundle: its score on the rows of the headline, if it has one, and its gate's measurement."""
    gate = dig(bundle, "gate")
    checked = gate_score(gate, ours)
    score = like(next(iter(ours), None), [*test_scores(bundle, ours), *([checked] if checked else [])])
    note = "exported without a check: not scored"
    if checked is not None:
        drop = number(gate, "drop_points")
        note = f"{signed(-drop)} points against PyTorch" if drop is not None else ""
        note += "" if score and alike(score, checked) else f", on {checked.where}"
        note = note if score else f"{checked.words} {checked.text}: {note}"
    files = mapping(dig(bundle, "files"))
    sizes = [number(facts, "bytes") or 0 for file, facts in files.items() if file.startswith("model.")]
    return Model(
        name_of(bundle),
        "bundle",
        score,
        checked,
        kept=ratio_of(score, like(score, teacher)),
        parameters=number(bundle, "parameters"),
        size_mb=sum(sizes) / 1e6 if any(sizes) else None,
        note=note.strip(),
    )


def name_of(bundle: dict[str, Any]) -> str:
    """Runtime and precision."""
    return f"{bundle.get('runtime', 'bundle')} {bundle.get('precision', '')}".strip()


def test_scores(bundle: dict[str, Any], ours: list[Score]) -> list[Score]:
    """The bundle's scores on the run's own test rows."""
    known = results.Split.from_json(mapping(dig(bundle, "test")))
    listed = results.Scores({"test": known}).listed(next((score.metric for score in ours), None))
    rows = next((score.rows for score in ours if score.where == "test"), None)
    return [in_words(score) for score in listed if score.rows is not None and score.rows == rows]


def gate_score(gate: Any, ours: list[Score]) -> Score | None:
    """The gate's score of a bundle, in the run's own terms if both scored the same rows."""
    value, before, rows = number(gate, "bundle"), number(gate, "torch"), number(gate, "rows")
    if value is None:
        return None
    metric, (low, high) = str(dig(gate, "metric")), bounds(dig(gate, "bundle_interval"))
    for score in ours:
        factor = 100 if score.hundred else 1
        of_the_kind = score.metric == metric or (score.hundred and metric == "spearman" and score.where == "dev")
        same_rows = score.rows is None or score.rows == rows
        if of_the_kind and same_rows and before is not None and abs(score.value / factor - before) < SAME_SCORE:
            low, high = (None if end is None else end * factor for end in (low, high))
            return replace(score, value=value * factor, low=low, high=high)
    return Score(value, metric, str(dig(gate, "data") or "the gate's data"), int(rows) if rows else None, low, high)


# ---- in words


def yardstick(run: RunFiles) -> str:
    """Reference values for an agreement with the teacher, in a sentence."""
    known = {name: run.result.yardsticks.get(name) for name in ("untrained", "chance")}
    untrained, chance = known["untrained"], known["chance"]
    if untrained is None or chance is None:
        return ""
    return (
        f"For comparison: agreement was {percent(untrained)} before training, and random neighbours would give "
        f"{percent(chance)}."
    )


def headline(run: RunFiles) -> str:
    """The result of the run in a sentence."""
    if not run.scored:
        last = run.log[-1]["step"] if run.log else 0
        return f"There are no scores: the run has not finished. Its log ends at step {last:,.0f}."
    score, reference = verdict(run)
    if score is None:
        return "There are no scores: the run had no dev or test data."
    rows = f" ({score.rows:,} rows)" if score.rows else ""
    what = score.words[0].upper() + score.words[1:]
    if reference is None:
        said = f"{what} {score.text} on {score.where}{rows}."
        worth = " Its value shows only in the students that start from it." if run.command == "pretrain" else ""
        return said + (worth or (f" {beside}" if (beside := yardstick(run)) and score.metric == "agreement" else ""))
    if run.result.before_and_after:
        change = score.value - reference.value
        turn = "higher after" if change > 0 else "lower after" if change < 0 else "unchanged by"
        return f"{what} on {score.where}{rows}, {turn} training: {reference.text} before, {score.text} after."
    if score.metric in results.LESS_IS_BETTER:
        return f"{what} {score.text} on {score.where}{rows}, its teacher's {reference.text}: lower is better."
    share = ratio_of(score, reference)
    if share is None:
        return f"{what} {score.text} on {score.where}{rows}, its teacher's {reference.text}: no share can be told."
    return (
        f"The student keeps {percent(share)} of its teacher's {score.words} on {score.where}{rows}: "
        f"{score.text} against {reference.text}."
    )


def verdict(run: RunFiles) -> tuple[Score | None, Score | None]:
    """The main score of the trained model, and the teacher's (or the one before training), if comparable."""
    known = trained_scores(run)
    score = next(iter(next(reversed(known.values()), [])), None)
    return score, like(score, compared_with(known))


def against_teacher(run: RunFiles) -> str:
    """The difference of student and teacher on the rows of the headline, with its interval."""
    score, _ = verdict(run)
    if score is None:
        return ""
    ours, theirs = (answers_of(run, score.where, who) for who in ("ours", "theirs"))
    apart = difference(ours, theirs) if ours and theirs else None
    if ours is None or apart is None:
        return ""
    said, between = in_points(ours.metric, apart, score.hundred)
    rows = f"{ours.rows:,} rows" if len(ours.given) == ours.rows else f"{len(ours.given):,} of the {ours.rows:,} rows"
    sides = "After minus before" if run.result.before_and_after else "Student minus teacher"
    words = WORDS.get(ours.metric, ours.metric)
    return f"{sides}, {words} on {rows} of {score.where}: {said}, 95\u00a0% interval {between}."


def against_baseline(run: RunFiles) -> str:
    """The difference of the student and its baseline on the rows of the headline, with its interval."""
    score, _ = verdict(run)
    found = run.result.against_baseline.get(score.where) if score is not None else None
    if score is None or found is None:
        return ""
    metric, *apart = found
    said, between = in_points(metric, (apart[0], apart[1], apart[2]))
    lower = "; lower is better" if metric in results.LESS_IS_BETTER else ""
    clear = lower if apart[1] > 0 or apart[2] < 0 else "; no difference is shown"
    words = WORDS.get(metric, metric)
    return f"Student minus baseline, {words} on {score.where}: {said}, 95\u00a0% interval {between}{clear}."


def in_points(metric: str, apart: tuple[float, float, float], hundred: bool = False) -> tuple[str, str]:
    """A difference of scores, and its interval. hundred: the scores are shown times 100."""
    points = hundred or metric in PERCENT
    value, low, high = (signed(each * (100 if points else 1), 2 if points else 4) for each in apart)
    return f"{value} points" if points else value, f"{low} to {high}"


def rows_scored(run: RunFiles, found: list[Model]) -> str:
    """The rows on which the table's models were scored, in a sentence."""
    score, _ = verdict(run)
    if score is None:
        return ""
    rows = f" ({score.rows:,} rows)" if score.rows else ""
    what = "" if any(model.beside for model in found) else f"{score.words} "
    said = f"Every score in this table is {what}on {score.where}{rows}, as in the headline."
    bundles = [model for model in found if model.kind == "bundle" and model.checked]
    if bundles and not all(model.score for model in bundles):
        said += f" An exported model without a score was not scored on {score.where}."
    return said
