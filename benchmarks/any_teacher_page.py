"""The sections of docs/benchmarks.md on `any_teacher` and `selective`."""

from typing import Any

from markdown_parts import machine, table
from tagging_page import spread

PARTS = {
    "A teacher's answers in a file": (
        "1,000 of BANKING77's training questions have their label, the others a teacher alone (all-MiniLM-L6-v2, "
        "fine-tuned on all labels): live, or a file of its answers. Students by `kd` from `models/4L-312` as it is, in "
        "one pass, before [decision 18](decisions/0018-labels-by-their-share.md): each label weighed nine times as "
        "much.",
        ("labels", "live", "all probabilities", "top", "label and probability", "label alone"),
    ),
    "Students with another tokenizer": (
        "All questions have their label. The teacher is multilingual-e5-small (but of the last row: all-MiniLM-L6-v2). "
        "Kin: its weights, reduced to `4L-312`; other tokens: `models/4L-312` as it is, an English student.",
        ("multilingual", "english, kin"),
    ),
    "Smaller by structure": (
        "All questions have their label; `kd` of all-MiniLM-L6-v2, in one pass.",
        ("structure",),
    ),
}


def any_teacher(result: dict[str, Any]) -> str:
    rows = result["rows"]
    names = list(dict.fromkeys(row["name"] for row in rows))
    teachers = [name for name in names if name.endswith(" teacher")]
    parts = []
    for title, (about, beginnings) in PARTS.items():
        mine = [name for first in beginnings for name in names if name.startswith(first) and "teacher" not in name]
        if not mine:
            continue
        used = {f"{place_of_teacher(row)} teacher" for row in rows if row["name"] in mine}
        shown = [name for name in teachers if name in used]
        lines = [line(name, [row for row in rows if row["name"] == name]) for name in [*shown, *mine]]
        head = ["", "seeds", "accuracy, test", "accuracy, dev", "steps", "parameters", "MB"]
        parts.append(f"**{title}.** {about}\n\n{table(head, lines)}")
    return (
        "## Any teacher, any student\n\n"
        "BANKING77, the official test split; checkpoints chosen on a tenth of the training questions; mean (and "
        "standard deviation) over the seeds (`benchmarks/any_teacher.py`).\n\n"
        + "\n".join(parts)
        + f"\n{machine(result)}\n"
    )


def place_of_teacher(row: dict[str, Any]) -> str:
    """The name of a student's teacher; of a file of answers, of whose they are."""
    return str(row["settings"].get("teacher", "{english}")).strip("{}")


def line(name: str, rows: list[dict[str, Any]]) -> list[str]:
    test, dev = ([100 * row[split] for row in rows] for split in ("test", "dev"))
    size = f"{rows[0]['parameters'] / 1e6:.2f} M", f"{rows[0]['size_mb']:.0f}"
    return [name, str(len(rows)), spread(test), spread(dev), str(rows[0]["steps"]), *size]


def selective(result: dict[str, Any]) -> str:
    found, outside = [], []
    for name in dict.fromkeys(row["set"] for row in result["rows"]):
        mine = [row for row in result["rows"] if row["set"] == name]
        errors = [spread([100 * row[when][key] for row in mine]) for when, key in
                  (("before", "error"), ("after", "error"), ("after", "by_chance"))]  # fmt: skip
        kept = [row["test"] for row in mine if "test" in row]
        promise = [spread([100 * one[key] for one in kept]) for key in ("coverage", "accuracy")] if kept else ["–", "–"]
        found.append([name, str(len(mine)), spread([100 * row["accuracy"] for row in mine]),
                      spread([row["temperature"] for row in mine]), *errors, str(len(kept)), *promise])  # fmt: skip
        for row in mine:
            if "out_of_scope" in row:
                for score, one in row["out_of_scope"]["scores"].items():
                    low, high = one["interval"]
                    outside.append([str(row["seed"]), score, f"{one['auroc']:.3f} [{low:.3f} to {high:.3f}]",
                                    f"{100 * one['fpr95']:.1f} %"])  # fmt: skip
    head = ["", "seeds", "accuracy", "temperature", "error before", "after", "by chance", "target reached on dev",
            "coverage, test", "accuracy of these"]  # fmt: skip
    return (
        "## Probabilities to act on\n\n"
        f"{result['rows_drawn']:,} rows of each set, a tenth of them dev; all-MiniLM-L6-v2 by `contrastill finetune` "
        "as it is. Temperature and threshold are chosen on dev; figures are of test rows (2,000 at most), in percent. "
        "Error: expected calibration error before and after the temperature, and that of perfect probabilities there. "
        f"Coverage: share of test rows at or above the threshold of `export --target {result['target']}`; the seeds "
        "in which dev shows one (`benchmarks/selective.py`).\n\n"
        + table(head, found)
        + (
            "\nTexts of 15 intents that training did not see, against test rows of the others:\n\n"
            + table(["seed", "score", "AUROC", "false positives at 95 %"], outside)
            if outside
            else ""
        )
        + f"\n{machine(result)}\n"
    )
