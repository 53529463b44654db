"""The section of docs/benchmarks.md on `multilabel`."""

from typing import Any

from markdown_parts import machine, table


def multilabel(result: dict[str, Any]) -> str:
    test, shown = (
        result["test"],
        {"map": "mAP", "f1_micro": "micro F1", "f1_macro": "macro F1", "f1_samples": "samples F1"},
    )
    teacher, start = test["teacher"], result["runs"]["teacher"]["start"]
    rows = [
        ["the same answer to all", *(f"{100 * teacher['chance'][name]:.1f}" for name in shown)],
        ["teacher", *(f"{100 * teacher['test'][name]:.1f} ± {interval(teacher, name):.1f}" for name in shown)],
    ]
    for method, found in result["mean"].items():
        cells = [f"{100 * found[name][0]:.1f} ({100 * found[name][1]:.1f})" for name in shown]
        rows.append([f"{method}, rate {result['rates'][method]:g}", *cells])
    [(name, bundle)] = result["bundle"].items()
    gate, checked = bundle["gate"], bundle["test"]
    tables = "\n".join(chosen(name, found["by_rows"]) for name, found in result["thresholds"].items())
    differences = [
        f"- {name}: {100 * middle:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        for name, (middle, low, high) in result["differences"].items()
    ]
    return (
        "## Any number of labels a text\n\n"
        "MobIE, German traffic reports: which of 20 types of entity a sentence names (`benchmarks/multilabel.py`). "
        f"{result['rows']['train']:,} sentences of train, {result['rows']['dev']:,} of dev for every choice, "
        f"{teacher['rows']:,} of test scored at the end. Teacher: multilingual-e5-small (12 x 384), from a head fitted "
        f"on the frozen encoder (dev mAP {100 * start['map']:.1f} before training); students: "
        f"`{result['student']}`, the same start at each seed, {result['epochs']:g} epochs. Students: mean (and "
        f"standard deviation) over {result['seeds']} seeds; teacher: half of its 95 % interval over rows.\n\n"
        + table(["test, x 100", *shown.values()], rows)
        + "\nDifferences at each seed, points on test with their 95 % intervals (the same rows drawn for both):\n\n"
        + "\n".join(differences)
        + f"\n\nThe bundle of {name} ({bundle['mb']:.0f} MB): {100 * gate['bundle']:.2f} of "
        f"{100 * gate['torch']:.2f} {shown[gate['metric']]} on dev, "
        f"{gate['agreement']['equal_labels']:.1%} equal sets of labels; "
        f"{100 * checked['value']:.2f} on test.\n\n"
        "How thresholds are chosen: micro / macro F1 of the teacher on the rest of dev, chosen on so many rows of it, "
        f"mean over {result['thresholds']['teacher']['draws']} draws. *common*: one threshold, where micro F1 is "
        "best; *each*: where the label's own F1 is; *between, k*: from the one to the other by n / (n + k) for n "
        "positive rows. Below, the same for answers that are badly calibrated.\n\n" + tables + f"\n{machine(result)}\n"
    )


def chosen(name: str, by_rows: dict[str, dict[str, list[float]]]) -> str:
    """Of each way to choose thresholds: micro / macro F1."""
    rows = [
        [way, *(f"{100 * found[way][0]:.1f} / {100 * found[way][1]:.1f}" for found in by_rows.values())]
        for way in next(iter(by_rows.values()))
    ]
    return table([name, *(f"{count} rows" for count in by_rows)], rows)


def interval(found: dict[str, Any], name: str) -> float:
    """Half of it, in points."""
    low, high = found["interval"][name]
    return float(50 * (high - low))
