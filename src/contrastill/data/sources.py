"""Where a task's rows are: the Hub, GLUE's own files, a folder, a file. One table per split, cells as found."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import datasets

from contrastill.data.read import SUFFIXES, Table, read_table, split_name, table_of
from contrastill.data.tasks import GLUE, Task, glue_task
from contrastill.errors import UserError

__all__ = ["Found", "find_tables", "read_split"]

SPLITS = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}

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
    glue: Task | None
    public: bool  # a benchmark or Hub dataset: its test labels may be hidden
    tables: dict[str, Table]  # train, dev, test: those there are


def find_tables(source: str | Path, *, own: bool, encoding: str) -> Found:
    """`own`: the caller describes the columns, so nothing is recognised as GLUE."""
    path = Path(source)
    if path.is_dir():
        glue = None if own or not any(path.glob("*.tsv")) else glue_task(path.resolve().name)
        return Found(path.resolve().name, glue, glue is not None, _folder(path, glue, encoding))
    if path.is_file():
        return Found(split_name(path)[0], None, False, {"train": read_table(path, encoding)})
    if named := re.fullmatch(r"(?:glue/|nyu-mll/glue:)([\w-]+)(?::(.+))?", str(source), re.IGNORECASE):
        glue = glue_task(named[1])
        if glue is None:
            raise UserError(f"expected glue/ and one of {', '.join(GLUE)}, got {str(source)!r}")
        if own:
            raise UserError(
                f"{source} has fixed columns and classes: leave out text, text_pair, label, kind and labels"
            )
        tables = _folder(Path(named[2]), glue, encoding) if named[2] else _hub("nyu-mll/glue", glue.name)
        return Found(glue.name, glue, True, tables)
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?", str(source))
    if named and split_name(path)[1] not in SUFFIXES:
        return Found(str(source), None, True, _hub(named[1], named[2]))
    raise UserError(
        f"expected glue/TASK, a Hub dataset (org/name), a folder or a file, got {str(source)!r}; check the path"
    )


def read_split(path: Path, glue: Task | None, encoding: str) -> Table:
    if glue is None or split_name(path)[1] != ".tsv":
        return read_table(path, encoding)
    table = read_table(path, encoding, glue_header=COLA_HEADER if glue.name == "cola" else ())
    return replace(table, frame=table.frame.rename(columns=GLUE_COLUMNS.get(glue.name, {})))


def _folder(folder: Path, glue: Task | None, encoding: str) -> dict[str, Table]:
    if not folder.is_dir():
        raise UserError(f"expected a folder, got {str(folder)!r}, which is none; check the path")
    files = sorted(file for file in folder.iterdir() if file.is_file())
    tables = {}
    for split, names in SPLITS.items():
        if glue:
            groups = [[file for file in files if file.match(pattern)] for pattern in GLUE_FILES[split]]
            hits = next(filter(None, groups), [])
        else:
            hits = [f for f in files if split_name(f)[0].lower() in names and split_name(f)[1] in SUFFIXES]
        if len(hits) > 1:
            raise UserError(
                f"{folder}: expected one {split} file, got {', '.join(f.name for f in hits)}; move one away"
            )
        if hits:
            tables[split] = read_split(hits[0], glue, encoding)
    if not tables:
        there = ", ".join(file.name for file in files[:20]) or "no file"
        wanted = "train.tsv" if glue else "train" + ", train".join(SUFFIXES)
        raise UserError(
            f"{folder}: expected {wanted}, and dev and test likewise, got {there}; rename yours, or pass a file"
        )
    return tables


def _hub(name: str, config: str | None) -> dict[str, Table]:
    try:
        splits = datasets.load_dataset(name, config)
    except Exception as error:  # the Hub client raises many: offline, unknown name or config, gated, script-based
        raise UserError(
            f"expected to read {name}{f' ({config})' if config else ''} from the Hugging Face Hub, got "
            f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}. Check the name and the "
            "network, or download the files and pass their folder (no local path has that name)"
        ) from error
    names = {**SPLITS, "dev": (*SPLITS["dev"], "validation_matched")}
    chosen = {ours: next((s for s in theirs if s in splits), None) for ours, theirs in names.items()}
    if chosen["train"] is None:
        raise UserError(
            f"{name}: expected a train split, got {', '.join(map(str, splits))}; choose another dataset or config"
        )
    return {ours: table_of(splits[s], f"{name} {s}") for ours, s in chosen.items() if s is not None}
