"""Command lines drawn from the table of settings: values at and outside their ranges, of other types, and odd texts."""

import random
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

import contrastill.settings as settings
from contrastill.ranges import typed

__all__ = ["COMMANDS", "describe", "mutations"]

COMMANDS: dict[str, tuple[str, ...]] = {
    "finetune": ("Finetuning",),
    "distill": ("Distillation", "EmbeddingDistillation"),
    "pretrain": ("Pretraining",),
    "contrast": ("Contrast",),
    "evaluate": ("Evaluation", "SuiteEvaluation"),
    "doctor": ("Distillation",),
    "export": ("Export",),
    "verify": ("Verification",),
    "serve": ("Serving",),
    "bench": ("Bench",),
    "cache build": ("CacheBuild",),
    "predict": ("Prediction",),
    "label": ("Labelling",),
    "augment": ("Augmentation",),
}
WEIGHTS = [20, 20, 4, 4, 16, 8, 8, 6, 8, 4, 6, 8, 6, 6]
NAMES = {"out", "cache"}  # written to: only names below the folder of the case are drawn
# In range, but for hours, or for all of the machine: drawn beyond the range alone.
COSTLY = {
    "epochs",
    "seconds",
    "threads",
    "workers",
    "checks",
    "timeout",
    "drain",
    "max_length",
    "length",
    "batch",
    "port",
}
ODD_NUMBERS = (
    *("nan", "inf", "-inf", "1e308", "1e20", "-1e20", "1e-400", "-0.0", "0", "-1", "1.5", "9" * 30, "9" * 5000),
    *("", " ", "x", "0x10", "1_0", "１２", "5\n", "1,5", "--", "None", "true", "½"),
)
ODD_TEXTS = (
    *("", " ", "t[/x][bold]", ":smile:", "\x1b[31mred", "a\x07b", "größe 北京 🙂", "‮", "a\nb", "%s %d {} {0}", "$HOME"),
    *(
        "None",
        "nan",
        "-",
        "--",
        "..",
        ":",
        "glue/",
        "glue/none",
        "hub",
        "none",
        "true",
        "1",
        "a=b",
        "=",
        "'",
        '"',
        "\\",
    ),
    *("x" * 300, "x/" * 2500, "ü" * 200, "\udcff", "utf-16", "utf_8_sig", "idna", "unicode_escape", "hex", "rot13"),
)


def mutations(seed: int, count: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """`count` command lines: a command, and the options to give it beside those that it needs."""
    for number in range(count):
        draw = random.Random(f"options {seed}/{number}")
        command = draw.choices(list(COMMANDS), WEIGHTS)[0]
        yield command, [one for _ in range(draw.choice([1, 1, 1, 2, 3])) for one in option(command, draw)]


def option(command: str, draw: random.Random) -> list[tuple[str, str]]:
    """One option, as often as it is given: name and text."""
    table = describe(getattr(settings, draw.choice(COMMANDS[command])))
    name = draw.choice(list(table))
    about = table[name]
    if about["type"] == "bool":
        return [(name, draw.choice(["", "no-"]))]
    times = draw.choice([1, 1, 2]) if "list" in about["type"] or "dict" in about["type"] else 1
    return [(name, value(name, about, draw)) for _ in range(times)]


def value(name: str, about: dict[str, Any], draw: random.Random) -> str:
    if "dict" in about["type"]:
        key = draw.choice(["temperature", "alpha", "queue", "distil", "joint", "", "tempratur", "x" * 300])
        return f"{key}={draw.choice(ODD_NUMBERS)}" if draw.random() < 0.9 else draw.choice(ODD_TEXTS)
    if "int" in about["type"] or "float" in about["type"]:
        bounds = [about[bound] for bound in ("at_least", "above", "at_most", "below") if bound in about]
        whole = "int" in about["type"]
        near = [bound + step for bound in bounds for step in ((-1, 0, 1) if whole else (-1, -1e-9, 0, 1e-9, 1))]
        drawn = draw.choice([*ODD_NUMBERS, *map(str, near)] * 1)
        return drawn if name not in COSTLY or not inside(drawn, about) else "-1"
    if about.get("choices") and draw.random() < 0.6:
        return draw.choice(about["choices"])
    odd = draw.choice(ODD_TEXTS)
    return odd if name not in NAMES else f"out {odd}".replace("/", "_").replace("\n", " ")


def inside(text: str, about: dict[str, Any]) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    low = about.get("at_least", about.get("above", -1e18))
    return low <= number <= about.get("at_most", about.get("below", 1e18))


def describe(settings: type) -> dict[str, dict[str, Any]]:
    """The table of a settings dataclass: of each field the type, help, panel, default and range."""
    table = {}
    for f in fields(settings):
        kind, _, optional = typed(f.type)
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        table[f.name] = {
            "type": getattr(kind, "__name__", str(kind)) if not hasattr(kind, "__origin__") else str(kind),
            "optional": optional,
            "required": default is MISSING,
            **({} if default is MISSING else {"default": default}),
            "help": f.metadata["help"],
            "panel": f.metadata["panel"],
            **f.metadata["range"].as_dict(),
        }
    return table
