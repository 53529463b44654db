"""A study: variants of a run at several seeds, each made once, and compared on dev."""

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from contrastill.data.files import check_place
from contrastill.errors import CheckFailed, UserError, quoted
from contrastill.locks import FolderLock
from contrastill.ranges import suggestion
from contrastill.results import LESS_IS_BETTER, read_object
from contrastill.screen import Screen
from contrastill.studies.axes import check_paths, crossed, filled, parts_of, places_in
from contrastill.studies.cells import Cells
from contrastill.studies.paired import differences, side_by_side
from contrastill.studies.run import MODELS, command_of, figures, markdown_table, measured, shown, taken_up

__all__ = ["Study"]

logger = logging.getLogger(__name__)

Cell = tuple[str, int]  # variant or place, seed
NOTES = ("about", "axes")  # what a row says, beside its settings
PAUSE = 5.0  # seconds before cells that other processes make are looked at again


class Study:
    """Variants of a run at several seeds: each is made once, and its row written to `out` as it ends.

    A cell, a variant at a seed, is known by a hash of its settings: so is its run's folder. The same call in several
    processes, on one machine or on several that share `out` and `runs`, makes each cell in one of them.

    variants: name -> settings, and beside them, where needed, `command`: "distill" (unless given), "contrast",
        "finetune", "pretrain", a function or "package.module:function", called with the settings, `seed` and `out`,
        that gives a run, or an object with the number `dev`; `of`: a variant before it, its start: `{of}` in a setting
        stands for the model of that run at the same seed; `about`: an object that the rows repeat.
    axes: axis -> value's name -> settings: each variant is made at every combination of values, and its rows say which
        (`axes`). Without variants the combinations are the variants. A combination's name is that of its values.
    shared: settings of each variant without its own. seeds: how many, from 0 on.
    places: name -> what `{name}` in a setting stands for: a path; or the settings of a run that is made once, before
        what needs it (a teacher, a start), and whose model it then is. Rows keep `{name}`: a file may lie elsewhere
        tomorrow.
    out: a .jsonl file, to which lines are added, or a .json file. runs: folder of the runs [beside `out`, named .runs].
    facts: entries of `out` beside the rows.

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
        places = dict(places or {})
        given = {name: {**(shared or {}), **each} for name, each in crossed(variants, axes or {}).items()}
        made = {name: one for name, one in places.items() if isinstance(one, Mapping)}
        if clash := [name for name in made if name in given]:
            raise UserError(f"expected other names for places than for variants, got {quoted(clash[0])} twice")
        self.variants, self.axes = list(given), dict(axes or {})
        self.settings_of = {name: {"command": "distill", **each} for name, each in {**made, **given}.items()}
        self.places = {name: one for name, one in places.items() if name not in made}
        self.made = list(made)
        self.cells, self.seeds = Cells(out, facts), seeds
        self.runs = Path(runs).expanduser() if runs is not None else self.cells.file.with_suffix(".runs")
        if seeds < 1:
            raise UserError(f"seeds: expected at least 1, got {seeds}")
        for name, settings in self.settings_of.items():
            before = self.variants[: self.variants.index(name)] if name in given else []
            if (of := settings.get("of")) is not None and of not in before:
                raise UserError(f"{name}: expected `of` to be a variant before it, got {quoted(of)}")
            later = self.made[self.made.index(name) :] if name in made else []
            if loop := [place for place in places_in(own(settings)) if place in later]:
                raise UserError(f"{name}: expected a place before it, got {quoted(loop[0])}")

    @classmethod
    def of(
        cls,
        variants: str | Path,
        out: str | Path,
        *,
        set: Mapping[str, Any] | None = None,
        places: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """The study in a JSON file of `variants` or `axes`, `shared` and `places`; its other entries are facts.

        set: settings of all variants, in place of theirs. places: beside those of the file, or in place of them.
        options: `seeds` and `runs`.

        Raises:
            UserError: there is no such file, or it holds no study.
        """
        file = read_object(Path(variants))
        table, axes, shared, made = (file.pop(name, {}) for name in ("variants", "axes", "shared", "places"))
        tables = [table, *(axes.values() if isinstance(axes, dict) else [None])]
        whole = all(isinstance(each, dict) and all(isinstance(one, dict) for one in each.values()) for each in tables)
        if not whole or not isinstance(shared, dict) or not isinstance(made, dict) or not (table or axes):
            raise UserError(
                f'{variants}: expected {{"variants": {{name: settings}}, "shared": settings}}, or with '
                '{"axes": {axis: {value: settings}}}, and with {"places": {name: path or settings}}'
            )
        given = dict(set or {})
        table = {name: {**one, **given} for name, one in table.items()} or ({"": given} if axes and given else {})
        its = {"axes": axes, "shared": shared, "places": {**made, **(places or {})}, "facts": {**(facts or {}), **file}}
        return cls(table, out, **its, **options)

    def run(self, only: Collection[str] = ()) -> list[dict[str, Any]]:
        """Makes the cells that `out` does not hold, or waits for other processes to make them; returns the rows.

        only: names of variants and places, or of values of axes ("a, b": where both hold) [all]; what they go on from
            is made too.

        Raises:
            UserError: before work, a cell that cannot be made, or rows that cannot be written.
            CheckFailed: at the end, cells that failed.
            Interrupted: Ctrl-C; the same call goes on, within a run too.
        """
        from contrastill.machine import describe_machine
        from contrastill.training import Interrupted

        self.cells.facts.setdefault("machine", describe_machine())
        console, cells, failed = Screen(stderr=True), self.chosen(only), dict[Cell, str]()
        todo = self.missing(cells)
        again = self.lost(todo)
        for cell in [*again, *todo]:
            self.ready(cell)
        if todo:
            with suppress(OSError):
                self.cells.file.parent.mkdir(parents=True, exist_ok=True)
            check_place(self.cells.file)
        console.print(f"{len(cells) - len(todo)} of {len(cells)} cells are in {self.cells.file}", soft_wrap=True)
        for cell in again:
            console.print(f"{named(cell)}: trained again, as its model is not in {self.runs}", soft_wrap=True)
        todo = [*again, *todo]
        waited = False
        while todo:
            later: list[Cell] = []
            for cell in todo:
                try:
                    row = self.make(cell, failed, again)
                except KeyboardInterrupt:
                    made = len(cells) - len(self.missing(cells))
                    raise Interrupted(
                        f"{made} of {len(cells)} cells are finished; the same command continues"
                    ) from None
                except Exception as error:  # the other cells go on
                    if not isinstance(error, UserError):
                        logger.exception("%s", named(cell))
                    failed[cell] = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                    said = f"failed: {failed[cell]}"
                else:
                    if row is None:
                        later.append(cell)
                        continue
                    said = ", ".join(f"{name} {shown([value])}" for name, value in figures(row).items())
                place = len(cells) - len(self.missing(cells)) + len(failed)
                console.print(f"{place} of {len(cells)}: {named(cell)}: {said}", soft_wrap=True)
            if len(later) == len(todo):
                if not waited:
                    console.print(f"waiting for other processes, which make {len(later)} cells", soft_wrap=True)
                waited = True
                time.sleep(PAUSE)
            todo = later
        if failed:
            raise CheckFailed(
                f"{len(failed)} of {len(cells)} cells failed, and the same command tries them again; the rows of the "
                f"others are in {self.cells.file}. " + "; ".join(f"{named(cell)}: {failed[cell]}" for cell in failed)
            )
        return self.rows()

    def chosen(self, only: Collection[str] = ()) -> list[Cell]:
        """The cells of these variants and places, by seed, each after those that it goes on from."""
        named = {name for text in only for name in self.named(text)}
        asked = [(name, self.settings_of[name].get("seed", 0)) for name in self.made if name in named]
        asked += [(name, seed) for seed in range(self.seeds) for name in self.variants if not only or name in named]
        found: dict[Cell, None] = {}

        def add(cell: Cell) -> None:
            for start in self.starts(cell).values():
                add(start)
            found[cell] = None

        for cell in asked:
            add(cell)
        return list(found)

    def named(self, text: str) -> list[str]:
        """The variant or place of this name, or the variants with these values of axes.

        Raises:
            UserError: there is none.
        """
        if text in self.settings_of:
            return [text]
        parts = {name: parts_of(name, [*self.settings_of[name].get("axes", {}).values()]) for name in self.variants}
        if found := [name for name in self.variants if text in parts[name]]:
            return found
        known = {*self.settings_of, *(part for some in parts.values() for part in some)}
        raise UserError(f"no variant {quoted(text)}{suggestion(text, known)}")

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells to be made."""
        there = self.table()
        return [cell for cell in cells if self.identity(cell) not in there]

    def lost(self, cells: Iterable[Cell]) -> list[Cell]:
        """What these cells go on from that has a row and no model: `out` was made elsewhere, or its runs are gone."""
        found, there = dict[Cell, None](), self.table()

        def add(cell: Cell) -> None:
            for start in self.starts(cell).values():
                of_ours = self.settings_of[start[0]]["command"] in MODELS
                if of_ours and self.identity(start) in there and not self.model(start).exists():
                    add(start)
                    found[start] = None

        for cell in cells:
            add(cell)
        return list(found)

    def make(self, cell: Cell, failed: Collection[Cell] = (), again: Collection[Cell] = ()) -> dict[str, Any] | None:
        """The row of a cell, which is made if no process has; None: another process makes it, or a start of it.

        again: cells with a row whose model is made all the same.
        """
        starts = self.starts(cell).values()
        if without := [start for start in starts if start in failed]:
            raise UserError(f"{without[0][0]}, its start, failed")
        if self.missing(starts) or self.lost([cell]):
            return None
        with self.claimed(cell) as ours:
            row = self.table().get(self.identity(cell))
            if row is None:
                return self.made_now(cell) if ours else None
            if cell in again and not self.model(cell).exists():
                if not ours:
                    return None
                self.trained(cell)
            return row

    def trained(self, cell: Cell) -> tuple[Any, bool]:
        """The run of a cell, trained or resumed; and whether it was resumed."""
        function, settings = self.ready(cell)
        if self.settings_of[cell[0]]["command"] in MODELS:
            return taken_up(function, settings, f"remove {settings['out']} if it may be made anew")
        return function(**settings), False

    def made_now(self, cell: Cell) -> dict[str, Any]:
        from contrastill.machine import describe_machine

        def row() -> dict[str, Any]:
            made, resumed = self.trained(cell)
            notes = {**self.notes(cell), "resumed": resumed}
            known = {name: value for name, value in notes.items() if value or name == "seed"}
            return {**known, "settings": self.settings(cell[0]), **measured(made), "machine": describe_machine()}

        return self.cells.once({"cell": self.identity(cell)}, row)

    @contextmanager
    def claimed(self, cell: Cell) -> Iterator[bool]:
        """Whether no other process makes the cell; none does within the block."""
        try:
            lock = FolderLock(self.runs / ".claims", self.identity(cell))
        except UserError:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def ready(self, cell: Cell) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The function that makes a cell, and its settings.

        Raises:
            UserError: no such command or place, or a setting that cannot be.
        """
        settings = self.settings_of[cell[0]]
        places = {**self.places, **{name: self.model(start) for name, start in self.starts(cell).items()}}
        try:
            if (of := settings.get("of")) is not None and "of" not in places_in(own(settings)):
                raise UserError(f"it goes on from {of}: expected {{of}}, that run's model, in a setting, found none")
            given = {**filled(own(settings), places), "seed": cell[1], "out": str(self.folder(cell))}
            if settings["command"] in MODELS:
                check_paths(own(settings), self.places)
            return command_of(settings["command"], given), given
        except UserError as error:
            raise UserError(f"{cell[0]}: {error}") from None

    def starts(self, cell: Cell) -> dict[str, Cell]:
        """The cells whose models the settings of a cell name, by the places where they stand."""
        settings = self.settings_of[cell[0]]
        found = {"of": (settings["of"], cell[1])} if settings.get("of") is not None else {}
        needed = [name for name in dict.fromkeys(places_in(own(settings))) if name in self.made]
        return found | {name: (name, self.settings_of[name].get("seed", 0)) for name in needed}

    def settings(self, name: str) -> dict[str, Any]:
        """The command and settings in the rows of a variant or place, with those of what it goes on from."""
        found: dict[str, Any] = {key: value for key, value in self.settings_of[name].items() if key not in NOTES}
        if "of" in found:
            found["of"] = self.settings(found["of"])
        if places := {place: self.settings(place) for place in self.starts((name, 0)) if place != "of"}:
            found["places"] = places
        return json.loads(json.dumps(found, default=word))

    def identity(self, cell: Cell) -> str:
        """The hash by which `out` and the folder of runs know a cell."""
        return hashed(self.settings(cell[0]), cell[1])

    def folder(self, cell: Cell) -> Path:
        """The folder of a cell's run."""
        return self.runs / self.identity(cell)

    def model(self, cell: Cell) -> Path:
        """The folder of the model that a cell's run makes."""
        return self.folder(cell) / MODELS.get(self.settings_of[cell[0]]["command"], "model")

    def notes(self, cell: Cell) -> dict[str, Any]:
        return {"name": cell[0], "seed": cell[1], **{name: self.settings_of[cell[0]].get(name) for name in NOTES}}

    def table(self) -> dict[str, dict[str, Any]]:
        """The rows of `out`, of these settings or others, by the hash of each."""
        rows = self.cells.read()["rows"]
        return {row.get("cell") or hashed(row.get("settings"), row.get("seed")): row for row in reversed(rows)}

    def rows(self, name: str | None = None) -> list[dict[str, Any]]:
        """The rows that are made, of a variant or of all."""
        there = self.table()
        cells = [(each, seed) for each in self.variants if name in (None, each) for seed in range(self.seeds)]
        found = [(cell, there[identity]) for cell in cells if (identity := self.identity(cell)) in there]
        return [{**row, **{key: value for key, value in self.notes(cell).items() if value is not None}}
                for cell, row in found]  # fmt: skip

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
        return (min if metrics & LESS_IS_BETTER else max)(means, key=means.__getitem__)

    def compared(self, axis: str, to: str | None = None) -> str:
        """Tables of the values of an axis side by side, with differences paired by seed: see `side_by_side`."""
        return side_by_side(self.rows(), axis, to)

    def plot(self, file: str | Path, axis: str, to: str | None = None) -> None:
        """Draws these differences with their intervals; the file's name says how (.svg, .png, .pdf)."""
        from contrastill.studies.plot import forest

        forest(differences(self.rows(), axis, to), Path(file))

    def markdown(self) -> str:
        """A table: of each variant the means over its seeds, with their standard deviations."""
        found = {name: [figures(row) for row in rows] for name in self.variants if (rows := self.rows(name))}
        names = list(dict.fromkeys(name for rows in found.values() for row in rows for name in row))
        lines = [
            [variant, str(len(rows)), *(shown([row[name] for row in rows if name in row]) for name in names)]
            for variant, rows in found.items()
        ]
        return "\n".join(markdown_table(["variant", "seeds", *names], lines)) + "\n"


def own(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the command is given."""
    return {key: value for key, value in settings.items() if key not in ("command", "of", *NOTES)}


def hashed(settings: Any, seed: Any) -> str:
    """A hash of settings as JSON, in any order; 2.0 is 2."""
    whole = json.loads(json.dumps(settings), parse_float=lambda text: int(x) if (x := float(text)) % 1 == 0 else x)
    return hashlib.sha256(json.dumps([whole, seed], sort_keys=True).encode()).hexdigest()[:12]


def named(cell: Cell) -> str:
    return f"{cell[0]}, seed {cell[1]}"


def word(value: Any) -> str:
    """A function, a class or a path, in JSON."""
    return f"{value.__module__}:{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)
