"""The section of docs/benchmarks.md on `multilabel`."""

import statistics
from typing import Any

from markdown_parts import machine, table

SHOWN = {"map": "mAP", "f1_micro": "micro F1", "f1_macro": "macro F1", "f1_samples": "samples F1"}


def multilabel(result: dict[str, Any]) -> str:
    parts: dict[str, dict[str, Any]] = {}
    for row in result["rows"]:
        parts.setdefault(row["part"], {})[row["name"]] = row
    test, start = parts["test"], parts["runs"]["teacher"]["start"]
    teacher = test["teacher"]
    rows = [
        ["the same answer to all", *(f"{100 * teacher['chance'][name]:.1f}" for name in SHOWN), ""],
        [
            "teacher",
            *(f"{100 * teacher['test'][name]:.1f} [{interval(teacher, name)}]" for name in SHOWN),
            f"{100 * teacher['at_half']['f1_micro']:.1f}",
        ],
    ]
    methods = {name.partition(",")[0]: row["rate"] for name, row in test.items() if name != "teacher"}
    for method, rate in methods.items():
        seeds = [row for name, row in test.items() if name.startswith(f"{method},")]
        scores = (spread([100 * one["test"][name] for one in seeds]) for name in SHOWN)
        at_half = spread([100 * one["at_half"]["f1_micro"] for one in seeds])
        rows.append([f"{method}, rate {rate:g}", *scores, at_half])
    [(name, bundle)] = parts["bundle"].items()
    gate, checked = bundle["gate"], bundle["test"]
    tables = "\n".join(chosen(name, found["by_rows"]) for name, found in parts["thresholds"].items())
    differences = [
        f"- {name}: {100 * middle:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        for name, (middle, low, high) in ((name, row["found"]) for name, row in parts["differences"].items())
    ]
    return (
        "## Any number of labels a text\n\n"
        "MobIE, German traffic reports: which of 20 types of entity a sentence names (`benchmarks/multilabel.py`). "
        f"{result['splits']['train']:,} sentences of train, {result['splits']['dev']:,} of dev for every choice, "
        f"{teacher['rows']:,} of test scored at the end. Teacher: multilingual-e5-small (12 x 384), from a head fitted "
        f"on the frozen encoder (dev mAP {100 * start['map']:.1f} before training); students: "
        f"`{result['student']}`, the same start at each seed, {result['epochs']:g} epochs. Students: mean (and "
        f"standard deviation) over {result['seeds']} seeds; teacher: its 95 % interval over rows.\n\n"
        + table(["test, x 100", *SHOWN.values(), "micro F1, all thresholds 0.5"], rows)
        + "\nDifferences at each seed, points on test with their 95 % intervals (the same rows drawn for both):\n\n"
        + "\n".join(differences)
        + f"\n\nThe bundle of {name} ({bundle['mb']:.0f} MB): {100 * gate['bundle']:.2f} of "
        f"{100 * gate['torch']:.2f} {SHOWN[gate['metric']]} on dev, "
        f"{gate['agreement']['equal_labels']:.1%} equal sets of labels; "
        f"{100 * checked['value']:.2f} on test.\n\n"
        "How thresholds are chosen: micro / macro F1 of the teacher on the rest of dev, chosen on so many rows of it, "
        f"mean over {parts['thresholds']['teacher']['draws']} draws. *common*: one threshold, where micro F1 is "
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


def spread(values: list[float]) -> str:
    """The mean and, of several, the standard deviation."""
    return f"{statistics.mean(values):.1f}" + (f" ({statistics.stdev(values):.1f})" if len(values) > 1 else "")


def interval(found: dict[str, Any], name: str) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in found["interval"][name])
