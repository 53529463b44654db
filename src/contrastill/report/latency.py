"""The latency of each model for one text, and how many times faster it is."""

from dataclasses import replace
from typing import Any

from contrastill.errors import counted
from contrastill.report.model import Model
from contrastill.report.run import RunFiles, dig, mapping, number, objects

__all__ = ["bounds", "timings", "with_speed"]

UNTIMED = ("before", "yardstick")  # kinds of models that bench.json has no row of


def bounds(interval: Any) -> tuple[float | None, float | None]:
    return (
        (number(interval[0]), number(interval[1])) if isinstance(interval, list) and len(interval) == 2 else (None,) * 2
    )


def with_speed(run: RunFiles, found: list[Model]) -> list[Model]:
    """Latencies of one text from bench.json, else from an export's gate, which times the student in PyTorch."""
    rows = timings(run)
    return by_bench(run, rows, found) if rows else by_gates(run, found)


def by_bench(run: RunFiles, rows: list[dict[str, Any]], found: list[Model]) -> list[Model]:
    about = "texts of the data" if rows[0].get("length") == "data" else f"{rows[0].get('length')} tokens"
    if new := number(rows[0], "new_tokens"):
        about += f" and {new:.0f} new tokens"
    if threads := number(run.bench, "threads"):
        about += f", {counted(int(threads), 'thread')}"
    result = []
    for model in found:
        row = next((row for row in rows if is_of(row, model)), None)
        ms = number(row, "p50_ms")
        ratio = number(row, "ratio") or (number(rows[0], "p50_ms") or 0) / ms if ms else None
        timed = f"bench.json, {about}" if ms else None
        low, high = bounds(dig(row, "ratio_interval"))
        between = None if low is None or high is None else f"{low:.1f} to {high:.1f}"
        than, doubt = base_of(run, rows), dig(row, "doubt")
        timing = replace(model, latency_ms=ms, timed=timed, ratio=ratio, than=than, doubt=str(doubt) if doubt else None)
        result.append(replace(timing, ratio_interval=between if ms else None))
    return result


def base_of(run: RunFiles, rows: list[dict[str, Any]]) -> str:
    """The reference model of the ratios; with runtime and precision, where they are not PyTorch's float32."""
    rule = mapping(run.bench.get("yardstick")) or rows[0]
    what = f"{rule.get('runtime')} {rule.get('precision')}"
    return str(rule.get("model")) + ("" if what == "torch fp32" else f" in {what}")


def timings(run: RunFiles) -> list[dict[str, Any]]:
    """The rows of bench.json for single texts: of the run's own lengths, else of 128 tokens, else what there is."""
    good = [row for row in objects(run.bench.get("rows")) if number(row, "p50_ms") and row.get("batch") == 1]
    lengths = [row.get("length") for row in good]
    chosen = next((length for length in ("data", 128) if length in lengths), lengths[0] if lengths else None)
    return [row for row in good if row.get("length") == chosen and row.get("workers", 1) == 1]


def is_of(row: dict[str, Any], model: Model) -> bool:
    """Whether the row times this model; a model that is not exported is timed as float32 in PyTorch."""
    what = f"{row.get('runtime')} {row.get('precision')}"
    if (row.get("model") == "teacher") != (model.kind == "teacher"):
        return False
    return model.name.startswith(what) if model.kind == "bundle" else what == "torch fp32" and model.kind not in UNTIMED


def by_gates(run: RunFiles, found: list[Model]) -> list[Model]:
    gates = [dig(bundle, "gate", "latency_ms") for bundle in run.bundles]
    first = next((gate for gate in gates if number(gate, "torch_p50")), None)
    if first is None:
        return found
    threads = number(first, "threads")
    about = "the exports' gates" + (f", {counted(int(threads), 'thread')}" if threads else "")
    result, waiting = [], iter(gates)
    base_name = f"{'student' if 'student' in run.result.models else 'model'} in PyTorch"
    for model in found:
        if model.kind == "bundle":
            gate = next(waiting)
            ms, base = number(gate, "bundle_p50"), number(gate, "torch_p50")
            ratio = base / ms if base and ms else None
            doubt = dig(gate, "doubt")
            model = replace(model, latency_ms=ms, timed=about, ratio=ratio, than=base_name)
            model = replace(model, doubt=str(doubt) if doubt else None)
        elif model.kind == "trained":
            model = replace(model, latency_ms=number(first, "torch_p50"), timed=about)
        result.append(model)
    return result
