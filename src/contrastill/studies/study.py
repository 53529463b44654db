"""A study: variants of a run at several seeds, each made once, and compared on dev."""

import itertools
import json
import logging
import re
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from contrastill.errors import CheckFailed, UserError, quoted
from contrastill.ranges import suggestion
from contrastill.screen import Screen
from contrastill.studies.cells import Cells, has
from contrastill.studies.paired import side_by_side
from contrastill.studies.run import MODELS, command_of, figures, markdown_table, measured, shown, taken_up

__all__ = ["Study"]

logger = logging.getLogger(__name__)

Cell = tuple[str, int]  # variant, seed


class Study:
    """Variants of a run at several seeds: each is made once, and its row written to `out` as it ends.

    variants: name -> settings, and beside them, where needed, `command`: "distill" (unless given), "contrast",
        "finetune", "pretrain", a function or "package.module:function", called with the settings, `seed` and `out`,
        that gives a run, or an object with the number `dev`; `of`: a variant before it, its start: `{of}` in a setting
        stands for the model of that run at the same seed; `about`: an object that the rows repeat.
    axes: axis -> value's name -> settings: each variant is made at every combination of values, and its rows say which
        (`axes`). Without variants the combinations are the variants. A combination's name is that of its values.
    shared: settings of each variant without its own. seeds: how many, from 0 on.
    places: name -> what `{name}` in a setting stands for. Rows keep `{name}`: a file may lie elsewhere tomorrow.
    runs: folder of the runs [beside `out`, named .runs]. facts: entries of `out` beside the rows.

    Raises:
        UserError: variants that cannot be.
    """

    def __init__(
        self,
        variants: Mapping[str, Mapping[str, Any]] | None,
        out: str | Path,
        *,
        axes: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
        shared: Mapping[str, Any] | None = None,
        seeds: int = 1,
        places: Mapping[str, Any] | None = None,
        runs: str | Path | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        variants = crossed(variants, axes or {})
        self.variants = {name: {"command": "distill", **(shared or {}), **each} for name, each in variants.items()}
        self.cells, self.seeds, self.places = Cells(out, facts), seeds, dict(places or {})
        self.runs = Path(runs).expanduser() if runs is not None else self.cells.file.with_suffix(".runs")
        self.first: dict[str, str] = {}  # variant -> the one at the beginning of its line
        if seeds < 1:
            raise UserError(f"seeds: expected at least 1, got {seeds}")
        for name, variant in self.variants.items():
            of = variant.get("of")
            if of is not None and of not in self.first:
                raise UserError(f"{name}: expected `of` to be a variant before it, got {quoted(of)}")
            self.first[name] = name if of is None else self.first[of]
        if len({self.folder((name, 0)) for name in variants}) < len(variants):
            raise UserError(f"expected names that differ in letters or digits, got {', '.join(map(quoted, variants))}")

    def run(
        self, only: Collection[str] = (), part: tuple[int, int] = (1, 1), overwrite: bool = False
    ) -> list[dict[str, Any]]:
        """Makes the cells that `out` does not hold; returns the study's rows.

        only: names of variants [all]. part: (1, 2) and (2, 2) are two processes that share the work. overwrite: makes
        anew what was made with other settings.

        Raises:
            UserError: before work, a row made with other settings, or a cell that cannot be made.
            CheckFailed: at the end, cells that failed.
            Interrupted: Ctrl-C; the same call goes on, within a run too.
        """
        from contrastill.machine import describe_machine
        from contrastill.training import Interrupted

        self.cells.facts.setdefault("machine", describe_machine())
        console, cells, failed = Screen(stderr=True), self.chosen(only, part), dict[Cell, str]()
        todo = self.missing(cells, overwrite)
        for cell in todo:
            self.ready(cell)
        known = len(cells) - len(todo)
        console.print(f"{known} of {len(cells)} cells are in {self.cells.file}", soft_wrap=True)
        for place, cell in enumerate(todo, known + 1):
            try:
                row = self.make(cell, failed, overwrite)
                said = ", ".join(f"{name} {shown([value])}" for name, value in figures(row).items())
            except KeyboardInterrupt:
                made = place - 1 - len(failed)
                raise Interrupted(f"{made} of {len(cells)} cells are finished; the same command continues") from None
            except Exception as error:  # the other cells go on
                if not isinstance(error, UserError):
                    logger.exception("%s", named(cell))
                failed[cell] = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                said = f"failed: {failed[cell]}"
            console.print(f"{place} of {len(cells)}: {named(cell)}: {said}", soft_wrap=True)
        if failed:
            raise CheckFailed(
                f"{len(failed)} of {len(cells)} cells failed, and the same command tries them again; the rows of the "
                f"others are in {self.cells.file}. " + "; ".join(f"{named(cell)}: {failed[cell]}" for cell in failed)
            )
        return self.rows()

    def chosen(self, only: Collection[str] = (), part: tuple[int, int] = (1, 1)) -> list[Cell]:
        """The cells of a part of the work. A variant and its start are in one part, in that order."""
        if unknown := [name for name in only if name not in self.variants]:
            raise UserError(f"no variant {quoted(unknown[0])}{suggestion(unknown[0], self.variants)}")
        if not 1 <= part[0] <= part[1]:
            raise UserError(f"part: expected 1/2, 2/2 and the like, got {part[0]}/{part[1]}")
        lines: dict[Cell, list[Cell]] = {}
        for seed in range(self.seeds):
            for name in self.variants:
                if not only or name in only:
                    lines.setdefault((self.first[name], seed), []).append((name, seed))
        longest_first = sorted(lines.values(), key=len, reverse=True)
        return [cell for line in longest_first[part[0] - 1 :: part[1]] for cell in line]

    def missing(self, cells: Iterable[Cell], overwrite: bool = False) -> list[Cell]:
        """The cells to be made. Raises a UserError where one was made with other settings."""
        return [cell for cell in cells if self.cells.find(key(cell), self.settings(cell[0]), overwrite) is None]

    def make(self, cell: Cell, failed: Collection[Cell], overwrite: bool) -> dict[str, Any]:
        """Makes a cell, unless another process has made it meanwhile."""
        from contrastill.machine import describe_machine

        variant = self.variants[cell[0]]
        if (variant.get("of"), cell[1]) in failed:
            raise UserError(f"{variant['of']}, its start, failed")
        function, settings = self.ready(cell)

        def row() -> dict[str, Any]:
            resumes = variant["command"] in MODELS
            made, resumed = taken_up(function, settings, overwrite) if resumes else (function(**settings), False)
            notes = {name: variant.get(name) for name in ("about", "axes")}
            notes["resumed"] = resumed  # then its seconds are not all
            known = {name: value for name, value in notes.items() if value}
            return {**known, **measured(made), "machine": describe_machine()}

        return self.cells.once(key(cell), row, self.settings(cell[0]), overwrite)

    def ready(self, cell: Cell) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The function that makes a cell, and its settings.

        Raises:
            UserError: no such command or place, or a setting that cannot be.
        """
        variant = self.variants[cell[0]]
        places = dict(self.places)
        if (of := variant.get("of")) is not None:
            places["of"] = self.folder((of, cell[1])) / MODELS.get(self.variants[of]["command"], "model")
        own = {key: value for key, value in variant.items() if key not in ("command", "of", "about", "axes")}
        try:
            if of is not None and "{of}" not in json.dumps(own, default=word):
                raise UserError(f"it goes on from {of}: expected {{of}}, that run's model, in a setting, found none")
            settings = {**filled(own, places), "seed": cell[1], "out": str(self.folder(cell))}
            return command_of(variant["command"], settings), settings
        except UserError as error:
            raise UserError(f"{cell[0]}: {error}") from None

    def settings(self, name: str) -> dict[str, Any]:
        """The command and settings in a variant's rows; `of` holds those of its start."""
        variant = {key: value for key, value in self.variants[name].items() if key not in ("about", "axes")}
        start = {"of": self.settings(variant["of"])} if "of" in variant else {}
        return json.loads(json.dumps({**variant, **start}, default=word))

    def folder(self, cell: Cell) -> Path:
        name = re.sub(r"[^\w.-]+", "_", cell[0])
        return self.runs / f"{name}-{cell[1]}"

    def rows(self, name: str | None = None) -> list[dict[str, Any]]:
        """The rows that are made, of a variant or of all."""
        cells = [(each, seed) for each in self.variants if name in (None, each) for seed in range(self.seeds)]
        there = self.cells.read()["rows"]
        return [row for cell in cells for row in there if has(row, key(cell))]

    def best(self) -> str:
        """The variant with the best mean of `dev`, of those whose every seed is made.

        Raises:
            UserError: none is, rows have no `dev`, or several metrics.
        """
        whole = {name: rows for name in self.variants if len(rows := self.rows(name)) == self.seeds}
        metrics = {row.get("metric") for rows in whole.values() for row in rows if "dev" in row}
        if len(metrics) != 1 or not all("dev" in row for rows in whole.values() for row in rows):
            raise UserError(f"expected scores on dev of one metric, got {sorted(map(str, metrics)) or 'none'}")
        means = {name: statistics.mean(row["dev"] for row in rows) for name, rows in whole.items()}
        return (min if "loss" in metrics else max)(means, key=means.__getitem__)

    def compared(self, axis: str, to: str | None = None) -> str:
        """Tables of the values of an axis side by side, with differences paired by seed: see `side_by_side`."""
        return side_by_side(self.rows(), axis, to)

    def markdown(self) -> str:
        """A table: of each variant the means over its seeds, with their standard deviations."""
        found = {name: [figures(row) for row in rows] for name in self.variants if (rows := self.rows(name))}
        names = list(dict.fromkeys(name for rows in found.values() for row in rows for name in row))
        lines = [
            [variant, str(len(rows)), *(shown([row[name] for row in rows if name in row]) for name in names)]
            for variant, rows in found.items()
        ]
        return "\n".join(markdown_table(["variant", "seeds", *names], lines)) + "\n"


def crossed(
    variants: Mapping[str, Mapping[str, Any]] | None, axes: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, Mapping[str, Any]]:
    """Each variant at every combination of the axes' values, with their names; settings of a later axis come before
    those of an earlier one, a variant's own before all. Objects of settings (`set`, `stages`) are put together.

    Raises:
        UserError: an axis without values; neither variants nor axes; a variant that goes on from another, and axes.
    """
    if empty := [axis for axis, values in axes.items() if not values]:
        raise UserError(f"axes: expected values of {quoted(empty[0])}, got none")
    if not variants and not axes:
        raise UserError("expected variants or axes, got neither")
    found: dict[str, Mapping[str, Any]] = {}
    for chosen in itertools.product(*(values.items() for values in axes.values())):
        names = {axis: name for axis, (name, _) in zip(axes, chosen, strict=True)}
        settings: dict[str, Any] = {}
        for _, one in chosen:
            settings = together(settings, one)
        for name, variant in (variants or {"": {}}).items():
            if axes and "of" in variant:
                raise UserError(f"{name}: expected no `of` beside axes: name each start as a variant of its own")
            label = ", ".join([*names.values(), *([name] if name else [])])
            if label in found:
                raise UserError(f"axes: expected names that tell combinations apart, got {quoted(label)} twice")
            found[label] = together(settings, variant) | ({"axes": names} if axes else {})
    return found


def together(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, those of `then` in place of others; objects put together."""
    both = {name for name in first.keys() & then.keys() if all(isinstance(x[name], Mapping) for x in (first, then))}
    return {**first, **then, **{name: {**first[name], **then[name]} for name in both}}


def key(cell: Cell) -> dict[str, Any]:
    return {"name": cell[0], "seed": cell[1]}


def named(cell: Cell) -> str:
    return f"{cell[0]}, seed {cell[1]}"


def word(value: Any) -> str:
    """A function, a class or a path, in JSON."""
    return f"{value.__module__}:{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)


def filled(value: Any, places: Mapping[str, Any]) -> Any:
    """A setting with each `{name}` replaced."""
    if isinstance(value, dict):
        return {key: filled(one, places) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [filled(one, places) for one in value]
    if not isinstance(value, str):
        return value
    if unknown := [name for name in re.findall(r"{(\w+)}", value) if name not in places]:
        raise UserError(f"{quoted(value)}: expected a place for {unknown[0]} (--place {unknown[0]}=…)")
    return re.sub(r"{(\w+)}", lambda found: str(places[found[1]]), value)
