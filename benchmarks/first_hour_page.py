"""The section of docs/benchmarks.md on `first_hour`."""

from typing import Any

from markdown_parts import machine, table


def first_hour(result: dict[str, Any]) -> str:
    cells: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in result["rows"]:
        cells.setdefault((row["model"], row["rows"], row["set"]), {})[row["way"]] = row
    rows, within, compared = [], 0, 0
    for (model, size, name), ways in cells.items():
        ours = ways.get("default")
        if ours is None:
            continue
        others = {way: row for way, row in ways.items() if not way.startswith(("default", "rate", "student"))}
        best = max(others, key=lambda way: others[way]["accuracy"], default=None)
        complete = any(way.startswith("plain") for way in others)
        if best is not None and complete:
            compared += 1
            within += ours["accuracy"] >= others[best]["accuracy"] - 0.01
        rows.append(
            [
                f"{name}, {size} rows",
                model,
                scored(ours),
                scored(ours["began_at"]),
                scored(ways.get("probe")),
                scored(best_of(ways, "plain")),
                scored(ways.get("setfit")),
                "" if best is None or not complete else f"{100 * (ours['accuracy'] - others[best]['accuracy']):+.1f}",
                f"{ours['minutes']:.1f}",
            ]
        )
    head = ["set", "model", "default", "began at", "logistic regression", "plain Trainer, best of 3", "SetFit"]
    return (
        "## A first model, with nothing chosen\n\n"
        "`contrastill finetune --model M --data F --out R` beside what else is at hand for the same rows "
        "(`benchmarks/first_hour.py`): accuracy on test with its 95 % interval over rows, one seed. *began at*: the "
        "linear probe that the run starts from. *logistic regression*: on the frozen encoder's mean vectors (of a pair "
        "on |u - v| and u * v). *plain Trainer*: a new head, as many steps; of three learning rates the best on test. "
        "Of 300 rows 75 are dev. On CoLA always giving the common class has 69.1. "
        f"The default is within a point of the best in {within} of {compared} cells where the plain Trainer was run "
        "too.\n\n" + table([*head, "default - best", "minutes"], rows) + f"\n{machine(result)}\n"
    )


def best_of(ways: dict[str, dict[str, Any]], kind: str) -> dict[str, Any] | None:
    found = [row for way, row in ways.items() if way.startswith(f"{kind} ")]
    return max(found, key=lambda row: row["accuracy"], default=None)


def scored(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    low, high = (f"{100 * end:.1f}" for end in row["interval"])
    return f"{100 * row['accuracy']:.1f} [{low}, {high}]"
