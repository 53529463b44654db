"""The sections of docs/benchmarks.md on `tagging` and `tagging_negatives`."""

import statistics
from typing import Any

from markdown_parts import machine, table

NAMES = {
    "harvey": "HarveyNER, places in English tweets",
    "mobie": "MobIE, German traffic reports",
    "cluener": "CLUENER, Chinese, of dev",
}
E5 = "multilingual-e5-small (12 x 384)"
TEACHERS = {"harvey": "all-mpnet-base-v2 (12 x 768)", "mobie": E5, "cluener": E5}


def tagging(result: dict[str, Any]) -> str:
    parts = []
    for name, said in NAMES.items():
        rows = [row for row in result["rows"] if row["set"] == name]
        if rows:
            made = dict.fromkeys(row.get("cpu") or result["machine"]["cpu"] for row in rows if "seed" in row)
            parts.append(f"**{said}.** Teacher: {TEACHERS[name]}. Made on {', '.join(made)}.\n\n{scores(rows)}")
            apart = result.get("differences", {}).get(name, [])
            parts += ["\n".join(difference(one) for one in apart) + "\n"] if apart else []
            bundles = [row for row in rows if row["way"].startswith("bundle")]
            parts += [exports(bundles)] if bundles else []
    return (
        "## Taggers\n\n"
        "F1 of entities on test (start, end and type exact), checkpoints chosen on dev; students by three methods from "
        "the same start, on the same rows, in as many steps (`benchmarks/tagging.py`). Students: mean (and standard "
        "deviation) over the seeds; teacher: its 95 % interval over texts. Kept: the student's F1 divided by the "
        "teacher's.\n\n" + "\n".join(parts) + f"\n{machine(result)}\n"
    )


def scores(rows: list[dict[str, Any]]) -> str:
    rows = [row | {"test": row[row.get("scored", "test")]} for row in rows if not row["way"].startswith("bundle")]
    teacher = next(row for row in rows if row["way"] == "teacher")
    low, high = teacher["interval"]
    head = ["", "seeds", "F1", "precision", "recall", "mean F1 of types", "kept", "parameters"]
    found = [
        ["teacher", "1", f"{100 * teacher['test']['f1']:.1f} [{100 * low:.1f} to {100 * high:.1f}]"]
        + [f"{100 * teacher['test'][key]:.1f}" for key in ("precision", "recall", "f1_macro")]
        + ["", f"{teacher['parameters'] / 1e6:.1f} M"]
    ]
    ways = dict.fromkeys((row["student"], row["way"]) for row in rows if "student" in row)
    for student, way in ways:
        mine = [row for row in rows if (row.get("student"), row["way"]) == (student, way)]
        figures = [
            spread([100 * row["test"][key] for row in mine]) for key in ("f1", "precision", "recall", "f1_macro")
        ]
        whole = teacher["test"]["f1"]
        kept = f"{spread([100 * row['test']['f1'] / whole for row in mine])} %" if whole else "–"
        found.append([f"{student}, `{way}`", str(len(mine)), *figures, kept, f"{mine[0]['parameters'] / 1e6:.1f} M"])
    return table(head, found)


def difference(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    seeds = f"{len(one['seeds'])} seeds" if len(one["seeds"]) > 1 else "one seed"
    return f"- {one['student']}, {one['of']}, {seeds}: {one['points']:+.1f} points [{low:+.1f} to {high:+.1f}]"


def exports(rows: list[dict[str, Any]]) -> str:
    found = []
    for row in rows:
        gate = row["gate"]
        pace = gate["latency_ms"]
        found.append(
            [
                row["way"].removeprefix("bundle of "), row["runtime"], row["precision"],
                f"{row['parameters'] / 1e6:.1f} M",
                f"{100 * row['test']['metrics']['f1']:.1f}", f"{gate['drop_points']:.2f}", f"{row['mb']:.0f}",
                f"{pace['bundle_p50']:.2f}" if not pace["doubt"] else "not stated",
            ]
        )  # fmt: skip
    return table(
        ["bundle", "runtime", "precision", "parameters", "F1, test", "points lost on dev", "MB", "ms a text"], found
    )


def tagging_negatives(result: dict[str, Any]) -> str:
    found, settings = [], result["rows"][0]["settings"]
    for name in dict.fromkeys(row["name"] for row in result["rows"]):
        mine = [row for row in result["rows"] if row["name"] == name]
        found.append([name, str(len(mine)), spread([100 * row["dev"] for row in mine])])
    return (
        "### Negatives of a tagger's contrastive loss\n\n"
        f"LRC-BERT's students ({settings['student']}, {settings['epochs']:g} epochs) of a HarveyNER tagger (4L-312), "
        "one thing changed at a time, equal start, rows and steps; dev F1 (`benchmarks/tagging_negatives.py`, which "
        "says what the rows are).\n\n"
        + table(["", "seeds", "dev F1"], found)
        + "\nThe default is `tokens` with the mask ([decision 13](decisions/0013-tagging.md)).\n\n"
        f"{machine(result)}\n"
    )


def spread(values: list[float]) -> str:
    """The mean and, of several, the standard deviation."""
    return f"{statistics.mean(values):.1f}" + (f" ({statistics.stdev(values):.1f})" if len(values) > 1 else "")
