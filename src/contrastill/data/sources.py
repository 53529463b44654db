"""Sources of a task's rows: the Hub, GLUE's own files, a folder, a file. One table per split, cells as found."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd

from contrastill.data.cells import some
from contrastill.data.files import CONLL, SUFFIXES, look_up, split_name
from contrastill.data.read import Table, held_table, read_table, table_of
from contrastill.data.schema import GLUE, Schema, glue_task
from contrastill.errors import UserError, first_line
from contrastill.hub import hub_answers
from contrastill.memory import Held

__all__ = ["Found", "find_tables", "read_split"]

SPLITS = {
    "train": ("train", "training"),
    "dev": ("dev", "development", "validation", "valid", "val", "eval", "evaluation"),
    "test": ("test", "testing"),
}
SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)")
WITHOUT = {"unlabelled", "unlabeled"}  # a file of this name is no split, whatever else its name says
OTHERS = (".txt", ".xlsx", ".xls", ".ods", ".arrow", ".feather", ".zip")  # may hold rows, and are not read

# GLUE's own files: what is looked for, first come, and where their columns differ from the Hub's.
GLUE_FILES = {
    "train": ("train.tsv", "train_union.tsv", "subset_train_*.tsv"),
    "dev": ("dev.tsv", "dev_matched.tsv", "subset_dev_*.tsv"),
    "test": ("test_labelled*.tsv", "test.tsv"),
}
GLUE_COLUMNS = {
    "mrpc": {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"},
    "stsb": {"score": "label"},
    "qqp": {"is_duplicate": "label"},
    "mnli": {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
}
COLA_HEADER = ("source", "label", "star", "sentence")  # its files have none


@dataclass(frozen=True)
class Found:
    name: str
    glue: Schema | None
    public: bool  # a benchmark or Hub dataset: its test labels may be hidden
    tables: dict[str, Table]  # train, dev, test: those there are
    files: dict[str, str] = field(default_factory=dict)  # where each is from, in words
    left: str = ""  # what lies there beside them, in words


def find_tables(
    source: str | Path, *, own: bool, encoding: str, delimiter: str | None = None, tagged: bool = False
) -> Found:
    """`own`: the caller describes the columns, so nothing is recognised as GLUE. tagged: entities are asked for."""
    if isinstance(source, Held):
        return Found(source.partition(" passed")[0], None, False, *_held(source))
    path, there = look_up(source)
    if there == "folder":
        glue = None if own or not any(path.glob("*.tsv")) else glue_task(path.resolve().name)
        return Found(path.resolve().name, glue, glue is not None, *_folder(path, glue, encoding, delimiter, tagged))
    if there == "file":
        table = read_table(path, encoding, delimiter=delimiter, tagged=tagged)
        return Found(split_name(path)[0], None, False, {"train": table}, {"train": path.name}, _beside(path))
    if named := re.fullmatch(r"(?:glue/|nyu-mll/glue:)([\w-]+)(?::(.+))?", str(source), re.IGNORECASE):
        glue = glue_task(named[1])
        if glue is None:
            raise UserError(f"expected glue/ and one of {', '.join(GLUE)}, got {str(source)!r}")
        if own:
            raise UserError(
                f"{source} has fixed columns and classes: leave out text, text_pair, label, kind and labels"
            )
        found = _folder(Path(named[2]), glue, encoding, delimiter) if named[2] else _hub("nyu-mll/glue", glue.name)
        return Found(glue.name, glue, True, *found)
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?", str(source))
    if named and split_name(path)[1] not in (*SUFFIXES, *CONLL):
        return Found(str(source), None, True, *_hub(named[1], named[2]))
    raise UserError(
        f"expected glue/TASK, a Hub dataset (org/name), a folder or a file, got {str(source)!r}; check the path"
    )


def read_split(
    source: str | Path, glue: Schema | None, encoding: str, delimiter: str | None = None, tagged: bool = False
) -> Table:
    if isinstance(source, Held):
        return held_table(source)
    path = Path(source)
    if glue is None or split_name(path)[1] != ".tsv":
        return read_table(path, encoding, delimiter=delimiter, tagged=tagged)
    table = read_table(path, encoding, glue_header=COLA_HEADER if glue.name == "cola" else ())
    return replace(table, frame=table.frame.rename(columns=GLUE_COLUMNS.get(glue.name, {})))


def _held(source: Held) -> tuple[dict[str, Table], dict[str, str], str]:
    """The tables of rows in memory, by the names of their splits."""
    if source.alone:
        return {"train": held_table(source)}, {"train": str(source)}, ""
    used = _splits_of(source.splits)
    if not used:
        raise UserError(f"{source}: expected train, dev or test, got {some([*source.splits])}; rename one")
    tables = {ours: held_table(source, theirs) for ours, theirs in used.items()}
    return tables, used, some([each for each in source.splits if each not in used.values()], 20)


def _splits_of(there: Iterable[Any]) -> dict[str, str]:
    """Split -> its name in the source."""
    names = {**SPLITS, "dev": (*SPLITS["dev"], "validation_matched")}
    chosen = {ours: next((name for name in theirs if name in there), None) for ours, theirs in names.items()}
    return {ours: theirs for ours, theirs in chosen.items() if theirs is not None}


def _folder(
    folder: Path, glue: Schema | None, encoding: str, delimiter: str | None = None, tagged: bool = False
) -> tuple[dict[str, Table], dict[str, str], str]:
    if look_up(folder)[1] != "folder":
        raise UserError(f"expected a folder, got {str(folder)!r}, which is not a folder; check the path")
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
        below = sorted(
            f"{inner.name}/" for inner in folder.iterdir() if inner.is_dir() and any(map(_holds_rows, inner.iterdir()))
        )
    except OSError as error:
        raise UserError(f"{folder}: could not be read ({error}); check its permissions") from error
    tables, names, taken = {}, {}, set[Path]()
    for split in SPLITS:
        if glue:
            groups = [[file for file in files if file.match(pattern)] for pattern in GLUE_FILES[split]]
            hits = next(filter(None, groups), [])
        else:
            hits = _files_of(split, files, (*SUFFIXES, *CONLL, *([".txt"] if tagged else [])))
        if len(hits) > 1 and not _whole(folder, hits):
            raise UserError(f"{folder}: expected one {split} file, got {some([f.name for f in hits])}; move one away")
        if hits:
            tables[split] = _joined([read_split(file, glue, encoding, delimiter, tagged) for file in hits])
            names[split] = hits[0].name + (f" and {len(hits) - 1} more" if len(hits) > 1 else "")
            taken |= set(hits)
    if not tables:
        there = some([file.name for file in files] + below, 20) or "no file"
        wanted = "train.tsv" if glue else "train" + ", train".join((*SUFFIXES, *CONLL))
        raise UserError(
            f"{folder}: expected {wanted}, and dev and test likewise, got {there}; rename yours, or pass a file"
            + (f" or the folder {folder / below[0]}" if below else "")
        )
    return tables, names, some([file.name for file in files if file not in taken and _holds_rows(file)] + below, 20)


def _files_of(split: str, files: list[Path], suffixes: Collection[str]) -> list[Path]:
    """The files of a split: those called by its name (or the shards of one), else the one that has it as a word."""
    rows = [file for file in files if split_name(file)[1] in suffixes]
    exact = [file for file in rows if _stem(file) in SPLITS[split]]
    worded = [file for file in rows if _splits_in(_stem(file)) == {split}]
    return exact or (worded if len({_stem(file) for file in worded}) == 1 else [])


def _stem(file: Path) -> str:
    """my-train-00000-of-00002.parquet -> my-train"""
    stem = split_name(file)[0].lower()
    shard = SHARD.fullmatch(stem)
    return shard[1] if shard else stem


def _splits_in(stem: str) -> set[str]:
    """The splits named by the words of a file name."""
    words = re.split(r"[^a-z]+", stem)
    if WITHOUT & set(words):
        return set()
    return {split for split, names in SPLITS.items() if set(words) & set(names)}


def _whole(folder: Path, files: list[Path]) -> bool:
    """Whether these are the shards of one file.

    Raises:
        UserError: some of them are missing.
    """
    shards = [SHARD.fullmatch(split_name(file)[0]) for file in files]
    whole = {(shard[1], int(shard[3])) for shard in shards if shard}
    if None in shards or len(whole) > 1:
        return False
    numbers, (name, total) = [int(shard[2]) for shard in shards if shard], whole.pop()
    if len(set(numbers)) < len(numbers):
        return False
    if missing := sorted(set(range(total)) - set(numbers)):
        raise UserError(
            f"{folder}: expected {total} parts of {name}, got {len(files)}; missing are number "
            f"{some(missing)}: copy them too"
        )
    return True


def _joined(tables: list[Table]) -> Table:
    """The shards of a split as one table."""
    first = tables[0]
    if len(tables) == 1:
        return first
    for table in tables[1:]:
        if set(table.frame.columns) != set(first.frame.columns) or table.classes != first.classes:
            raise UserError(
                f"{table.name}: expected the columns and classes of {first.name}, got others; write it again"
            )
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    frame.index += 1
    return replace(
        first,
        name=f"{first.name} and {len(tables) - 1} more",
        frame=frame,
        unit="row",
        dropped=sum(t.dropped for t in tables),
        notes=tuple(note for table in tables for note in table.notes),
    )


def _holds_rows(file: Path) -> bool:
    return file.is_file() and split_name(file)[1] in (*SUFFIXES, *CONLL, *OTHERS)


def _beside(path: Path) -> str:
    """The dev and test files beside a file of neither, named like it."""
    if _splits_in(_stem(path)) & {"dev", "test"}:
        return ""

    def rest(file: Path) -> list[str]:
        return [word for word in re.split(r"[^a-z]+", _stem(file)) if word and not _splits_in(word)]

    others = sorted(
        file.name
        for file in path.resolve().parent.iterdir()
        if _holds_rows(file) and _splits_in(_stem(file)) in ({"dev"}, {"test"}) and rest(file) == rest(path)
    )
    return f"{some(others)} beside it (--dev and --test take them)" if others else ""


def _hub(name: str, config: str | None) -> tuple[dict[str, Table], dict[str, str], str]:
    hub_answers()
    try:
        splits = datasets.load_dataset(name, config)
    except Exception as error:  # the Hub client raises many: offline, unknown name or config, gated, script-based
        raise UserError(
            f"expected to read {name}{f' ({config})' if config else ''} from the Hugging Face Hub, got "
            f"{type(error).__name__}: {first_line(error)}. Check the name and the "
            "network, or download the files and pass their folder (no local path has that name)"
        ) from error
    used = _splits_of(splits)
    if "train" not in used:
        raise UserError(
            f"{name}: expected a train split, got {', '.join(map(str, splits))}; choose another dataset or config"
        )
    tables = {ours: table_of(splits[theirs], f"{name} {theirs}") for ours, theirs in used.items()}
    return tables, used, some([each for each in map(str, splits) if each not in used.values()], 20)
