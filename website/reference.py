"""What the site takes from the code: the settings of each method, the command line, the Python API, the decisions."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import typer
from website.pages import DOCS

import contrastill
from contrastill.cli import app
from contrastill.methods import METHODS, measured, method_ranges, method_settings
from contrastill.ranges import Range

SETTINGS = {
    "Settings of training runs": ("Finetuning", "Distillation", "EmbeddingDistillation", "Contrast", "Pretraining"),
    "Settings of other commands": (
        "Labelling", "Augmentation", "Evaluation", "SuiteEvaluation", "Export", "Verification", "Prediction", "Serving",
        "Bench", "CacheBuild",
    ),
}  # fmt: skip


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell(one) for one in line) + " |" for line in lines)


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def allowed(values: Range) -> str:
    return ", ".join(f"`{one}`" for one in values.choices or [str(values)] if one)


def method(name: str) -> str:
    """A method's stages and settings: defaults and ranges from its constructor, meanings from its docstring."""
    about = METHODS[name]
    ranges, meanings = method_ranges(name), dict(named_lines(inspect.getdoc(about) or ""))
    losses = (" + ".join(f"{weight:g} · `{term}`" for term, weight in stage.weights.items()) for stage in about.stages)
    stages = [(f"`{stage.name}`", f"{stage.share:.0%}", loss) for stage, loss in zip(about.stages, losses, strict=True)]
    parts = [table(("stage", "share of the steps", "loss"), stages)]
    if settings := method_settings(name):
        rows = (
            (f"`{key}`", f"`{value}`", allowed(ranges[key]), meanings.get(key, "")) for key, value in settings.items()
        )
        parts.append(table(("setting (`--set name=value`)", "default", "allowed", "meaning"), rows))
    else:
        parts.append("The method has no settings of its own.")
    return "\n\n".join(parts)


def of_measured(name: str) -> str:
    """What was measured of a method, as `contrastill methods` says it."""
    if not (found := measured(name)):
        return "The method stands in no [table of methods side by side](../evidence.md) yet."
    timed = any(one.step is not None for one in found)
    rows = []
    for one in found:
        step = ["" if one.step is None else f"{one.step:.2f} ×"] if timed else []
        page = one.page.removeprefix("docs/")
        rows.append([one.on, f"{one.kept:.1%}", str(one.seeds), *step, f"[table](../{page})"])
    return table(["on", "share of the teacher's score", "seeds", *["a step, to labels alone"] * timed, "from"], rows)


def named_lines(text: str) -> Iterator[tuple[str, str]]:
    """`name: meaning` of a docstring's end, a meaning over several indented lines joined."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if start := re.match(r"(\w+): (.*)", line):
            found.append([start[1], start[2]])
        elif found and line.startswith("    "):
            found[-1][1] += " " + line.strip()
        else:
            found = [] if not line.strip() and not found else found
    return ((name, meaning) for name, meaning in found)


# ---- the command line


def cli(_: str) -> str:
    """Every command: what it does, its examples, its options by panel."""
    return "\n\n".join(of_command(path, one) for path, one in commands(typer.main.get_command(app), ()))


def commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Commands in the order of the help; a hidden one is another kind of the command before it."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*path, name))
        else:
            yield (*path, name), one


def of_command(path: tuple[str, ...], one: Any) -> str:
    name, _, kind = " ".join(path).partition(" ") if one.hidden else (" ".join(path), "", "")
    words = inspect.cleandoc(one.help or one.callback.__doc__ or "")
    about, _, examples = words.partition("Examples:")
    title = f"## {name}" + (f" (`{kind}`)" if kind else "")
    parts = [title, about.strip()]
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    if lines:
        parts.append("\n".join(["```console", *lines, "```"]))
    shown = [each for each in one.params if not getattr(each, "hidden", False)]
    given = [each for each in shown if each.param_type_name == "argument"]
    if given:
        parts.append(table(("argument", "meaning"), ((f"`{a.name}`", getattr(a, "help", "") or "") for a in given)))
    panels: dict[str, list[Any]] = {}
    for each in shown:
        if each.param_type_name == "option" and each.name != "help":
            panels.setdefault(getattr(each, "rich_help_panel", None) or "Options", []).append(each)
    for panel, options in panels.items():
        rows = ((", ".join(f"`{flag}`" for flag in (*o.opts, *o.secondary_opts)), o.help or "") for o in options)
        parts.append(f"**{panel}**\n\n" + table(("option", "meaning"), rows))
    return "\n\n".join(parts)


# ---- Python


def python(_: str) -> str:
    """Every public name: signature and docstring; of a settings class its fields."""
    settings = [name for names in SETTINGS.values() for name in names]
    listed = [name for name in contrastill.__all__ if name not in settings]
    functions = [name for name in listed if inspect.isfunction(getattr(contrastill, name))]
    others = [name for name in listed if name not in functions]
    parts = ["## Functions", *map(of_name, functions), "## Classes and constants", *map(of_name, others)]
    for title, names in SETTINGS.items():
        parts += [f"## {title}", *map(of_name, names)]
    return "\n\n".join(parts)


def of_name(name: str) -> str:
    thing = getattr(contrastill, name)
    head = f"### `{name}`"
    if is_dataclass(thing) and isinstance(thing, type) and any("help" in f.metadata for f in fields(thing)):
        rows = ((f"`{f.name}`", f"`{kind(f)}`", default(f), f.metadata["help"]) for f in fields(thing))
        return "\n\n".join([head, said(thing), table(("field", "type", "default", "meaning"), rows)])
    if isinstance(thing, dict):
        return f"{head}\n\n{', '.join(f'`{key}`' for key in thing)}"
    parts = [head, "```python\n" + signature(name, thing) + "\n```", said(thing)]
    if inspect.isclass(thing):
        own = [key for key, value in vars(thing).items() if not key.startswith("_") and inspect.isfunction(value)]
        rows = [(f"`{key}`", first_line(getattr(thing, key))) for key in own if inspect.getdoc(getattr(thing, key))]
        if rows:
            parts.append(table(("method", "what it does"), rows))
    return "\n\n".join(part for part in parts if part)


def signature(name: str, thing: Any) -> str:
    try:
        text = re.sub(r": (['\"])(.*?)\1(?=[,)]| =)", r": \2", f"{name}{inspect.signature(thing)}")
        text = re.sub(r"-> '(.*)'$", r"-> \1", text)
    except (TypeError, ValueError):
        return name
    text = re.sub(r"(: |-> )'([^']+)'", r"\1\2", text)  # annotations of modules that do not evaluate them
    text = re.sub(r"\b(?:contrastill|transformers|torch|collections|pathlib|typing)\.(?:\w+\.)*(?=\w)", "", text)
    if len(text) <= 110:
        return text
    head, _, rest = text.partition("(")
    inside, _, result = rest.rpartition(")")
    return f"{head}(\n    " + ",\n    ".join(re.split(r", (?![^\[]*\])", inside)) + f",\n){result}"


def said(thing: Any) -> str:
    """The docstring; indented lines and names before a colon as they are."""
    text = (inspect.getdoc(thing) or "").partition("\n\nArgs:\n")[0]  # settings have tables of their own
    text = re.sub(r"^Raises:\n((?: {4}.*\n?)+)", lambda m: "Raises:\n\n" + raised(m[1]), text, flags=re.MULTILINE)
    return re.sub(r"^([a-z]\w*(?:, \w+)*): ", r"- `\1`: ", text, flags=re.MULTILINE)


def raised(lines: str) -> str:
    joined = re.sub(r"\n {8}", " ", lines)
    return "".join(f"- {line.strip()}\n" for line in joined.splitlines())


def first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0]


def kind(field: Field[Any]) -> str:
    return str(field.type.__name__ if isinstance(field.type, type) else field.type).replace("typing.", "")


def default(field: Field[Any]) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    value = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
    return f"`{value}`"


# ---- decisions


def decisions(_: str) -> str:
    """The decisions, each with its number and title."""
    listed = sorted((DOCS / "decisions").glob("0*.md"))
    titles = {path.name: path.read_text("utf-8").partition("\n")[0].removeprefix("# ") for path in listed}
    return "\n".join(f"- [{title}]({name})" for name, title in titles.items())


GENERATORS: dict[str, Callable[[str], str]] = {
    "method": method, "measured": of_measured, "cli": cli, "python": python, "decisions": decisions,
}  # fmt: skip
