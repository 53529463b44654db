"""Options from settings: each field of a settings dataclass is an option, and a command shows one kind of run."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from contrastill.errors import UserError

__all__ = ["AS_JSON", "FROM", "RESUME", "Json", "Kind", "argument", "command", "option_in", "settings_of"]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; all else goes to stderr.")]


@dataclass(frozen=True)
class Kind:
    """One kind of run of a command.

    name: noun in messages; by: options that ask for it; asked: whether the words behind the command do.
    """

    settings: type
    help: str
    name: str = ""
    by: str = ""
    asked: Callable[[list[str]], bool] = lambda words: True


class Commands(TyperGroup):
    """Commands of several kinds: which of them is meant shows in the words that follow."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        for kind in KINDS.get(str(name), ())[1:]:
            if kind.asked(rest):
                found = self.get_command(ctx, variant(str(name), kind)) or found
        return name, found, rest


KINDS: dict[str, tuple[Kind, ...]] = {}
"""Command -> its kinds, the one that is meant without further words first."""


def variant(name: str, kind: Kind) -> str:
    """The hidden command of another kind than the first."""
    return f"{name} {kind.settings.__name__}"


def command(
    to: typer.Typer, run: Callable[..., None], kinds: Kind | tuple[Kind, ...], *more: inspect.Parameter
) -> None:
    """Registers `run(**options)` as a command whose options are the fields of its settings, and `more`.

    Of several kinds the help shows the options of one. The others' are read too: `settings_of` refuses them by name.
    Every option may be left out here: what is required is seen when the settings are built, so that `--from` and
    `--resume` can supply it.
    """
    name = run.__name__.rstrip("_")
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    KINDS[name] = kinds
    all_fields = [f for kind in kinds for f in fields(kind.settings)]
    for kind in kinds:
        own = {f.name for f in fields(kind.settings)}
        parameters = {f.name: parameter(f, all_fields) for f in fields(kind.settings)}
        parameters |= {one.name: one for one in more}
        parameters |= {f.name: parameter(f, all_fields, hidden=True) for f in all_fields if f.name not in own}

        def call(**options: Any) -> None:
            run(**options)

        call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        first = kind is kinds[0]
        others = [f"Options of {o.name}: `contrastill {name} {o.by} --help`" for o in kinds if o is not kind]
        to.command(
            name if first else variant(name, kind), help=kind.help, hidden=not first, epilog=" ".join(others) or None
        )(call)


def parameter(f: Field[Any], known: list[Field[Any]], hidden: bool = False) -> inspect.Parameter:
    """One field as one option; None means "not given". It may be repeated if it may be so in one kind of run."""
    required = f.default is MISSING and f.default_factory is MISSING
    flag = "--" + f.name.replace("_", "-")
    same: list[Any] = [g.type for g in known if g.name == f.name]
    kind: Any = next((k for k in same if getattr(k, "__origin__", None) is list), f.type)
    unsaid = any(f.default is each for each in (MISSING, None, False))
    notes = [
        *([" [required]"] if required else []),
        *([] if unsaid else [f" [default: {f.default}]"]),
        *([f" [{f.metadata['range']}]"] if str(f.metadata["range"]) else []),
    ]
    info = typer.Option(
        *([f"{flag}/--no-{f.name.replace('_', '-')}"] if kind is bool else [flag]),
        help=f.metadata["help"] + "".join(notes),
        rich_help_panel=f.metadata["panel"],
        show_default=False,
        hidden=hidden,
    )
    if getattr(kind, "__origin__", None) is dict:
        kind = list[str]
    annotation = kind | None if not str(kind).endswith("None") else kind
    return inspect.Parameter(
        f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation, info]
    )


def output_option(name: str, kind: Any, help: str, flag: str) -> inspect.Parameter:
    info = typer.Option(flag, help=help, rich_help_panel="Output", show_default=False)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if kind is bool else None,
        annotation=Annotated[kind if kind is bool else kind | None, info],
    )


def argument(name: str, help: str) -> inspect.Parameter:
    info = typer.Argument(help=help, show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, info])


AS_JSON = output_option("as_json", bool, "Print the result as JSON on stdout; all else goes to stderr.", "--json")
FROM = output_option("from_", Path, "Take the settings from this run.json; options given here replace them.", "--from")
RESUME = output_option("resume", Path, "Continue the interrupted run in this folder, as it was.", "--resume")


def option_in(words: list[str], flag: str) -> str | None:
    """The value of an option among the words of a command line; None: it is not there."""
    for place, word in enumerate(words):
        if word == flag:
            return words[place + 1] if place + 1 < len(words) else ""
        if word.startswith(flag + "="):
            return word.removeprefix(flag + "=")
    return None


# ---- settings from options


def given(options: dict[str, Any], settings: type, kinds: Iterable[Kind] = ()) -> dict[str, Any]:
    """The options that were given, in the types of `settings`: name=value lists as dictionaries, a list of one as one.

    kinds: of the command.

    Raises:
        UserError: an option that belongs to another kind of run; one given twice that is taken once.
    """
    result = {key: value for key, value in options.items() if value is not None and value != []}
    types: dict[str, Any] = {f.name: f.type for f in fields(settings)}
    if foreign := set(result) - set(types):
        raise foreign_options(foreign, settings, tuple(kinds))
    for name, value in result.items():
        origin = getattr(types[name], "__origin__", None)
        if origin is dict:
            result[name] = pairs_of(value, name)
        elif isinstance(value, list) and types[name] in (str, str | None):
            if len(value) > 1:
                raise UserError(f"--{name}: expected one, got {len(value)}")
            result[name] = value[0]
    return result


def foreign_options(foreign: set[str], settings: type, kinds: tuple[Kind, ...]) -> UserError:
    own = next((kind for kind in kinds if kind.settings is settings), None)
    other = next((k for k in kinds if foreign <= {f.name for f in fields(k.settings)}), None)
    wanted = f"options of {own.name}" if own else "options of this command"
    got = f"those of {other.name}; add {other.by} for that, or leave them out" if other else "others; see --help"
    return UserError(f"{', '.join(flags(foreign))}: expected {wanted}, got {got}")


def pairs_of(items: list[str], name: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    keys = [key for key, _, _ in pairs]
    if bad := [key for key, equals, _ in pairs if not equals or not key]:
        raise UserError(f"--{name}: expected name=value, got {bad[0][:80]!r}")
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"--{name}: expected each name once, got {twice[0][:80]!r} {len(twice)} times")
    return {key: after for key, _, after in pairs}


def settings_of(
    settings: Any,
    options: dict[str, Any],
    from_: Path | None = None,
    resume: Path | None = None,
    kinds: Iterable[Kind] = (),
) -> Any:
    """The settings that were asked for.

    Raises:
        UserError: a required one is missing, or --resume came with others.
    """
    chosen = given(options, settings, kinds)
    if resume is not None:
        if from_ is not None:
            raise UserError("--resume takes the settings of the run it continues; leave out --from")
        free = {"overwrite", "force", "report_to", "keep_checkpoints", "with_baseline"}
        if other := set(chosen) - free:
            raise UserError(f"--resume continues a run as it was; leave out {', '.join(flags(other))}")
        return settings.of(resume / "run.json", **chosen, out=str(resume), overwrite=False)
    if from_ is not None:
        if "out" not in chosen:
            raise UserError("--from repeats a run: give its new folder with --out")
        return settings.of(from_, **chosen)
    return settings.given(chosen)


def flags(names: Iterable[str]) -> list[str]:
    return sorted("--" + name.replace("_", "-") for name in names)
