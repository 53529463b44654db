"""Settings of the sources of rows and texts."""

from dataclasses import MISSING, dataclass
from typing import Any

from contrastill.settings.base import ROWS, Checked, delimiter_option, length_option, option

__all__ = ["Columns", "Corpus", "DataSource", "GateData", "PlaceOfTeacher"]

PLACE = "glue/TASK, a Hub data set, a folder (GLUE's, or train/dev/test files), or a file (csv, tsv, jsonl, parquet)"
DEV_SHARE: dict[str, Any] = {
    "help": "share of train held out when there is no dev file",
    "panel": "Data",
    "at_least": 0,
    "at_most": 0.5,
}
TENTH = "a tenth; of fewer than 1,000 rows up to a quarter, for 100 rows"
TEXTS = (
    "file of texts (a line each; or .csv .tsv .jsonl .parquet with --text; .gz .xz), or Hub data set; once for each "
    "source"
)
ENCODING: dict[str, Any] = {"help": "encoding of the text files", "panel": "Data"}


@dataclass(frozen=True, kw_only=True)
class Place(Checked):
    """The source of labelled examples."""

    data: str = option(MISSING, PLACE, "Data", path=True, rows=True)
    dev_share: float | None = option(None, **(DEV_SHARE | {"help": f"{DEV_SHARE['help']} [default: {TENTH}]"}))
    encoding: str = option("utf-8", **ENCODING)


@dataclass(frozen=True, kw_only=True)
class PlaceOfTeacher(Checked):
    """The source of labelled examples, by default the teacher's."""

    data: str | None = option(None, f"{PLACE} [default: as in the teacher's run]", "Data", path=True, rows=True)
    dev_share: float | None = option(
        None,
        **(DEV_SHARE | {"help": f"{DEV_SHARE['help']} [default: as in the teacher's run on these data, else {TENTH}]"}),
    )
    encoding: str | None = option(
        None,
        **(ENCODING | {"help": f"{ENCODING['help']} [default: as in the teacher's run on these data, else utf-8]"}),
    )


@dataclass(frozen=True, kw_only=True)
class Columns(Checked):
    """The columns and labels of labelled examples."""

    text: str | None = option(None, "column of the (first) text", "Data")
    text_pair: str | None = option(None, "column of the second text, for pairs", "Data")
    label: str | None = option(None, "column of the label or score", "Data")
    task: str | None = option(
        None,
        "kind of labels, if the data do not show it: 'classification', 'regression', 'multilabel', 'tagging', or a "
        "task of your own, package.module:Class",
        "Data",
    )
    separator: str | None = option(None, "character between the labels of a cell, with --task multilabel", "Data")
    labels: list[str] | None = option(None, "class names in the order of their ids, once for each class", "Data")
    metric: str | None = option(None, "metric that selects the checkpoint [default: the task's first]", "Data")
    dev: str | None = option(
        None, "file of development examples [default: a share of train is held out]", "Data", path=True, rows=True
    )
    test: str | None = option(None, "file of test examples, scored once, at the end", "Data", path=True, rows=True)
    limit: int | None = option(None, "use at most this many training examples", "Data", **ROWS)
    delimiter: str | None = delimiter_option()
    max_length: int | None = length_option(128)

    def reading(self) -> dict[str, Any]:
        """The keywords of `tasks.load_rows` that are settings, without the source."""
        names = (
            "text", "text_pair", "label", "task", "separator", "labels", "metric", "dev", "test", "dev_share", "limit",
            "encoding", "delimiter",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class DataSource(Columns, Place):
    """The source of examples, with the splits' own files."""


@dataclass(frozen=True, kw_only=True)
class Corpus(Checked):
    """The sources of unlabelled texts."""

    texts: list[str] = option(MISSING, TEXTS, "Data", path=True, rows=True)
    text: str | None = option(None, "column of the texts, if the file has columns", "Data")
    limit: int | None = option(None, "read at most this many texts", "Data", **ROWS)
    encoding: str = option("utf-8", "encoding of the text files", "Data")
    delimiter: str | None = delimiter_option()
    max_length: int | None = length_option(128)

    def reading(self) -> dict[str, Any]:
        """The keywords of `data.several_texts` that are settings, without the sources."""
        return {name: getattr(self, name) for name in ("text", "limit", "encoding", "delimiter")}


@dataclass(frozen=True, kw_only=True)
class GateData(Checked):
    """Labelled data that judge an exported file."""

    data: str | None = option(
        None, "labelled data (glue/TASK, folder, file), or scored pairs for an embedding model [default: the run's]",
        "Data", path=True, rows=True,
    )  # fmt: skip
    text: str | None = option(None, "column of the (first) text", "Data")
    text_pair: str | None = option(None, "column of the second text, for pairs", "Data")
    label: str | None = option(None, "column of the label or score", "Data")
    separator: str | None = option(None, "character between the labels of a cell, for a multi-label model", "Data")
    metric: str | None = option(None, "metric to compare [default: the task's first]", "Data")
    encoding: str | None = option(None, "encoding of the text files", "Data")
    delimiter: str | None = delimiter_option()
