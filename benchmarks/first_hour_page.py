"""The sections of docs/benchmarks.md on `first_hour` and `few_labels`."""

from typing import Any

from markdown_parts import machine, table

Row = dict[str, Any]
Ways = dict[str, Row]
POINT = 0.01


def first_hour(result: dict[str, Any]) -> str:
    cells: dict[tuple[str, str, str, int], Ways] = {}
    for row in result["rows"]:
        cells.setdefault((row["model"], row["rows"], row["set"], row["seed"]), {})[row["way"]] = row
    note = f"; {result['note']}" if "note" in result else ""
    return (
        "## A first model, with nothing chosen\n\n"
        "`contrastill finetune --model M --data F --out R` beside what else is at hand for the same rows "
        "(`benchmarks/first_hour.py`): accuracy on test with its 95 % interval over rows, one seed. *common class*: of "
        "one answer for all rows. *linear probe*: the fit of the new head, the "
        "start of the run if it tells anything. *logistic regression*: on the "
        "frozen encoder's mean vectors (of a pair on |u - v| and u * v). *plain Trainer*: a new head, as many steps; "
        "of three learning rates the best on test. *SetFit*: of single texts, as many steps. "
        "Of 300 rows 75 are dev. " + finetuned(cells) + "\n" + students(cells) + f"\n{machine(result)}{note}\n"
    )


def finetuned(cells: dict[tuple[str, str, str, int], Ways]) -> str:
    rows, within, below = [], dict[str, list[bool]](), 0
    for (model, size, name, _), ways in cells.items():
        ours = ways.get("default")
        others = [ways[way] for way in ways if way.split()[0] in ("probe", "plain", "setfit")]
        if ours is None or not others:
            continue
        behind = ours["accuracy"] - max(row["accuracy"] for row in others)
        within.setdefault(size, []).append(behind >= -POINT)
        fits = [fit["accuracy"] for fit in (ours["began_at"], ways.get("probe")) if fit is not None]
        below += ours["interval"][1] < max(fits, default=0.0)
        one = ways.get("common")
        rows.append(
            [
                f"{name}, {size} rows",
                model,
                "" if one is None else f"{100 * one['accuracy']:.1f}",
                scored(ours),
                scored(ours["began_at"]),
                scored(ways.get("probe")),
                scored(best_of(ways, "plain")),
                scored(ways.get("setfit")),
                f"{100 * behind:+.1f}",
            ]
        )
    head = ["set", "model", "common class", "default", "linear probe", "logistic regression"]
    head += ["plain Trainer, best of 3", "SetFit", "default - best"]
    counts = ", ".join(f"in {sum(near)} of {len(near)} sets at {size} rows" for size, near in within.items())
    counted = (
        f"The default is within a point of the best of the others {counts}. In {below} of {len(rows)} rows a linear "
        "fit (either of the two) lies above its interval."
    )
    return f"{counted}\n\n{table(head, rows)}"


def students(cells: dict[tuple[str, str, str, int], Ways]) -> str:
    rows, within = [], 0
    for (model, size, name, _), ways in cells.items():
        ours, best = ways.get("student"), best_of(ways, "student")
        if ours is None or best is None:
            continue
        behind = ours["accuracy"] - best["accuracy"]
        within += behind >= -POINT
        rate, preset = best["way"].split()[1:]
        teacher = scored(ways.get("default"))
        chosen = f"{scored(best)} ({rate}, {preset})"
        rows.append([f"{name}, {size} rows", model, teacher, scored(ours), chosen, f"{100 * behind:+.1f}"])
    if not rows:
        return ""
    head = ["set", "model", "teacher: the default", "student", "best of 3 rates x 2 lengths", "student - best"]
    return (
        "`contrastill distill --teacher R --data F --out S` of these models, with nothing else given, beside three "
        "learning rates with `--preset quick` and `good`, of which the best on test is shown. Within a point of it in "
        f"{within} of {len(rows)} rows.\n\n{table(head, rows)}"
    )


def first_hour_cpu(result: dict[str, Any]) -> str:
    rows = [
        [f"{row['set']}, {row['rows']} rows", row["model"], f"{row['steps']:,}", scored(row), f"{row['minutes']:.1f}"]
        for row in result["rows"]
        if row["way"] == "default"
    ]
    return (
        "## Minutes of a first model\n\n"
        "The same default on a processor, with the linear probe, the scores on dev and test and the report.\n\n"
        + table(["set", "model", "steps", "accuracy", "minutes"], rows)
        + f"\n{machine(result)}\n"
    )


def few_labels(result: dict[str, Any]) -> str:
    sets: dict[str, dict[str, list[float]]] = {}
    for row in result["rows"]:
        sets.setdefault(row["set"], {}).setdefault(row["way"], []).append(100 * row["test"])
    ways = list(next(iter(sets.values())))
    rows = [[name, *(spread(found.get(way, [])) for way in ways)] for name, found in sets.items()]
    return (
        f"## Students of {result['labels']} labels\n\n"
        "Accuracy on test: mean over draws of the rows, and the lowest and highest (`benchmarks/few_labels.py`). The "
        f"*teacher* has the labels of all rows for training. Its students have {result['labels']} of them: *finetune* "
        "the labels alone, *kd* the teacher's soft labels too, *lrc_bert* its layers too; *+ texts*: also the texts of "
        f"the other rows, without labels. All start from the teacher's weights and take {result['steps']} steps.\n\n"
        + table(["set", *ways], rows)
        + f"\n{machine(result)}\n"
    )


def spread(found: list[float]) -> str:
    if len(found) < 2:
        return "".join(f"{one:.1f}" for one in found)
    return f"{sum(found) / len(found):.1f} ({min(found):.1f} to {max(found):.1f}, {len(found)} draws)"


def best_of(ways: Ways, kind: str) -> Row | None:
    found = [row for way, row in ways.items() if way.startswith(f"{kind} ")]
    return max(found, key=lambda row: row["accuracy"], default=None)


def scored(row: Row | None) -> str:
    if row is None:
        return ""
    low, high = (f"{100 * end:.1f}" for end in row["interval"])
    return f"{100 * row['accuracy']:.1f} [{low}, {high}]" + " *" * ("again" in row)
