"""The few figures of a run that matter most."""

from contrastill.report.figures import duration, megabytes, millions, percent, signed, times
from contrastill.report.latency import timings
from contrastill.report.model import Model, ratio_of
from contrastill.report.results import verdict
from contrastill.report.run import RunFiles
from contrastill.results import LESS_IS_BETTER

__all__ = ["tiles"]


def tiles(run: RunFiles, found: list[Model]) -> list[tuple[str, str, str]]:
    """(what, figure, explanation) of the few figures that matter most."""
    result = []
    score, reference = verdict(run)
    if score and reference and run.result.before_and_after:
        change = signed((score.value - reference.value) * score.factor)
        chance = run.result.yardsticks.get("chance") if score.metric == "retrieval" else None
        beside = "" if chance is None else f"; {percent(chance)} by chance"
        points = " points" if score.factor == 100 else ""
        result.append(("change", f"{change}{points}", f"{score.words}, {score.where}{beside}"))
    elif score and (kept := ratio_of(score, reference)) is not None:
        result.append(("kept", percent(kept), f"of the teacher's {score.words}"))
    elif score:
        untrained = run.result.yardsticks.get("untrained") if score.metric == "agreement" else None
        beside = "" if untrained is None else f"; {percent(untrained)} before training"
        beside += "; lower is better" if score.metric in LESS_IS_BETTER else ""
        result.append((score.words, score.text, f"on {score.where}{beside}"))
    result += tiles_beside(found)
    teacher = next((model.size_mb for model in found if model.kind == "teacher"), None)
    ours = next((model for model in found if model.kind == "trained" and model.size_mb), None)
    if ours and ours.size_mb and teacher:
        against = f"{megabytes(ours.size_mb)} MB against {megabytes(teacher)} MB"
        result.append(("smaller", times(teacher / ours.size_mb), against))
        sizes = [(model.size_mb, model.name) for model in found if model.kind == "bundle" and model.size_mb]
        if sizes:
            least, name = min(sizes)
            result.append(("smaller, exported", times(teacher / least), f"{name}: {megabytes(least)} MB"))
    elif ours and ours.size_mb and ours.parameters:
        result.append(("parameters", millions(ours.parameters), f"{megabytes(ours.size_mb)} MB"))
    # one yardstick: where there is a teacher it is the teacher, not the student in PyTorch of an export's gate
    by_gate = "teacher" in run.result.models and not timings(run)
    quoted = [] if by_gate else [m for m in found if not m.doubt and m.kind != "teacher"]
    ratios = [(model.ratio, model.name, model.than) for model in quoted if model.ratio]
    if ratios:
        ratio, name, than = max(ratios)
        result.append(("faster", times(ratio), f"{name} than the {than}, one text at a time"))
    if seconds := run.result.seconds.get("training"):
        steps = run.result.figures.get("steps")
        result.append(("training", duration(seconds), f"{steps:,.0f} steps" if steps else ""))
    return result


def tiles_beside(found: list[Model]) -> list[tuple[str, str, str]]:
    """The further scores of the trained model, with the teacher's."""
    ours = next((model for model in found if model.kind == "trained"), None)
    teacher = next((model for model in found if model.kind == "teacher"), None)
    result = []
    for score in ours.beside if ours else ():
        theirs = teacher.by(score.metric) if teacher else None
        against = f"; the teacher's {theirs.text}" if theirs else ""
        result.append((score.words, score.text, f"on {score.where}{against}"))
    return result
