"""The record of a run: data, settings, checks, machine, times, bundles and timings, in words."""

from __future__ import annotations

from typing import Any

from contrastill.report.run import RunFiles, dig, mapping, number, objects

__all__ = [
    "check",
    "data",
    "decisions",
    "doubts",
    "exports",
    "machine",
    "phases",
    "plain",
    "settings",
    "speed",
    "warnings",
]

LONGEST_SETTING = 300  # characters
LONGEST_SENTENCE = 1_000
EXPORTS = {
    "path": ("path",),
    "runtime": ("runtime",),
    "precision": ("precision",),
    "recipe": ("recipe",),
    "gate": ("gate", "metric"),
    "rows": ("gate", "rows"),
    "PyTorch": ("gate", "torch"),
    "bundle": ("gate", "bundle"),
    "points lost": ("gate", "drop_points"),
    "allowed": ("gate", "max_drop"),
    "mean cosine": ("gate", "agreement", "cosine_mean"),
    "least cosine": ("gate", "agreement", "cosine_min"),
    "equal labels": ("gate", "agreement", "equal_labels"),
    "calibration error": ("gate", "calibration", "bundle", "error"),
    "of PyTorch": ("gate", "calibration", "torch", "error"),
    "by chance": ("gate", "calibration", "bundle", "by_chance"),
    "target": ("abstain", "target"),
    "threshold": ("abstain", "threshold"),
    "covered": ("abstain", "coverage"),
}


def exports(run: RunFiles) -> dict[str, Any] | None:
    """A row a bundle: what its bundle.json says of it."""
    rows = []
    for bundle in run.bundles:
        found = [dig(bundle, *keys) for keys in EXPORTS.values()]
        rows.append([f"{value:.4g}" if isinstance(value, float) else plain(value) for value in found])
    return {"columns": list(EXPORTS), "rows": rows} if rows else None


def speed(run: RunFiles) -> list[list[str]]:
    """Every row of bench.json."""
    words, figures = ("precision", "length", "batch"), ("p50_ms", "p95_ms", "throughput_per_s")

    def runtime(row: dict[str, Any]) -> str:
        streams = number(row, "workers") or 1
        written = f", {new:.0f} new tokens" if (new := number(row, "new_tokens")) else ""
        return plain(row.get("runtime")) + (f", {streams:.0f} streams" if streams > 1 else "") + written

    return [
        [plain(row.get("model")), runtime(row), *(plain(row.get(key)) for key in words)]
        + ["–" if (n := number(row, key)) is None else f"{n:.4g}" for key in (*figures, "load_s", "memory_mb", "ratio")]
        for row in objects(run.bench.get("rows"))
    ]


def doubts(run: RunFiles) -> list[str]:
    """Warnings of `contrastill bench` about its figures, and the reasons of failed rows."""
    said = run.bench.get("warnings")
    failed = [
        f"{plain(row.get('model'))}, {plain(row.get('runtime'))} {plain(row.get('precision'))}: {plain(row['error'])}"
        for row in objects(run.bench.get("rows"))
        if row.get("error")
    ]
    each = dict.fromkeys([*(plain(one) for one in (said if isinstance(said, list) else [])), *failed])
    return [f"bench.json: {one}." for one in each]


def decisions(run: RunFiles) -> dict[str, str]:
    """Name -> sentence or value of each automatic choice of the run, in order."""
    made = {str(name): sentence(value) for name, value in mapping(dig(run.record, "data", "decisions")).items()}
    taken = ", ".join(f"{name} = {plain(value)}" for name, value in mapping(run.record.get("as_teacher")).items())
    stopped = run.record.get("stopped")
    ended = {"end of training": sentence(stopped)} if stopped is not None else {}
    return {**({"as in the teacher's run": taken} if taken else {}), **made, **ended}


def warnings(run: RunFiles) -> list[str]:
    """The run's doubts about itself: those before training from run.json, those after it from metrics.json."""
    said = run.record.get("warnings")
    before = said if isinstance(said, list) else []
    return list(dict.fromkeys(sentence(one) for one in (*before, *run.result.warnings)))


def data(run: RunFiles) -> dict[str, Any]:
    """The data in run.json: figures by split, other figures, and notes."""
    known = mapping(run.record.get("data"))
    splits = {name: facts for name, facts in mapping(known.get("splits")).items() if isinstance(facts, dict)}
    columns = list(dict.fromkeys(key for facts in splits.values() for key in facts))
    other = {
        key: value
        for key, value in known.items()
        if key not in ("splits", "notes", "decisions") and value not in (None, [])
    }
    trained_on = run.result.figures.get("train_rows")
    if trained_on is not None:
        other["rows trained on"] = int(trained_on)
    lengths = next(
        (check.get("seen") for check in objects(run.record.get("preflight")) if check.get("name") == "texts fit"),
        "not recorded",
    )
    facts = {key.replace("_", " "): plain(value) for key, value in other.items()}
    facts |= {"lengths": str(lengths), "language": "not recorded"}
    if found := run.record.get("data_fingerprint"):
        facts["fingerprint (sha256)"] = str(found)
    return {
        "columns": columns,
        "splits": {name: [plain(facts.get(key)) for key in columns] for name, facts in splits.items()},
        "facts": facts,
        "notes": [str(note) for note in known.get("notes") or [] if isinstance(known["notes"], list)],
    }


def settings(run: RunFiles) -> dict[str, str]:
    return {name: plain(value) for name, value in run.settings.items()}


def machine(run: RunFiles) -> dict[str, str]:
    return {key.replace("_", " "): plain(value) for key, value in mapping(run.record.get("machine")).items()}


def check(one: dict[str, Any]) -> dict[str, Any]:
    good = bool(one.get("ok"))
    state = "ok" if good else "failed" if one.get("fatal") else "look"
    return {"name": plain(one.get("name")), "good": good, "state": state, "seen": plain(one.get("seen"))}


def phases(run: RunFiles) -> list[tuple[str, float, float]]:
    """(phase, seconds, share of the longest)."""
    known = run.result.seconds
    longest = max((seconds for seconds in known.values() if seconds), default=1)
    return [(name, seconds, seconds / longest) for name, seconds in known.items()]


def sentence(value: Any) -> str:
    return shorter(value, LONGEST_SENTENCE) if isinstance(value, str) else plain(value)


def plain(value: Any) -> str:
    """A value of run.json in words."""
    if value is None or value == {} or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, dict):
        return shorter(", ".join(f"{key} = {each}" for key, each in value.items()), LONGEST_SETTING)
    if isinstance(value, list):
        return shorter(", ".join(map(str, value)), LONGEST_SETTING)
    return shorter(str(value), LONGEST_SETTING)


def shorter(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
