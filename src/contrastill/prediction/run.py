"""`contrastill predict`: reads a file twice, once to check each row, once to answer it."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from contrastill.answers import Answer
from contrastill.data.delimited import DELIMITED
from contrastill.data.files import split_name
from contrastill.data.records import Record, Records, kind_of
from contrastill.errors import UserError, quoted_each
from contrastill.memory import Held
from contrastill.prediction.models import Model, column_names, open_model
from contrastill.prediction.write import check_out, json_lines, written
from contrastill.screen import progress
from contrastill.settings import Prediction

__all__ = ["Predictions", "predict"]

logger = logging.getLogger(__name__)

CHUNK, CHARACTERS = 4096, 1 << 22  # rows in memory at a time, and characters of their texts
SAMPLE = 1000  # rows by which the share of cut texts is told


@dataclass(frozen=True)
class Predictions:
    """Result of `predict`: rows answered, broken rows left out, share of the first texts that were cut."""

    out: str
    model: str
    task: str
    rows: int
    skipped: int
    cut_share: float
    seconds: float
    answers: list[dict[str, Any]] | None = None  # to rows that were passed as objects, where no file was asked for

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "answers"}


def predict(*, stream: IO[str] | None = None, **settings: Any) -> Predictions:
    """Answers the texts of a file with a bundle or a model. Settings: see `Prediction`.

    The answers are in the order of the rows, one a row, and in a file that is whole or not there.

    stream: where the answers go without `out`; by default stdout, and for rows passed as objects `.answers`.

    Raises:
        UserError: no such model or file, a broken row (before work starts), an answer that is not finite.
    """
    asked = Prediction.given(settings)
    out = None if asked.out in (None, "-") else Path(str(asked.out)).expanduser()
    if out is not None:
        check_out(out, asked.overwrite, None if isinstance(asked.data, Held) else Path(asked.data).expanduser())
    records = records_of(asked)
    found = Checked.of(records, asked.skip_broken)
    model = open_model(asked, pairs=records.text_pair is not None)
    kinds = columns(asked, records, found, model.answer, out)
    started, cut = time.perf_counter(), 0.0
    kept = isinstance(asked.data, Held) and (asked.out, stream) == (None, None)
    answers: list[dict[str, Any]] | None = [] if kept else None
    plain = json_lines(stream or sys.stdout) if answers is None else answers.extend
    target = contextlib.nullcontext(plain) if out is None else written(out, kinds)
    with target as write, progress(found.rows) as advance:
        for first, chunk in chunks(records, asked.skip_broken):
            if first:
                cut = model.cut_share([record.texts for record in chunk[:SAMPLE]])
                longer = model.answer.longer
                logger.info("length: %d tokens; %.1f %% of the first texts %s", model.max_length, 100 * cut, longer)
            write(answered(model, chunk, records, asked))
            advance(len(chunk))
    return Predictions(
        out=str(out) if out is not None else "-" if answers is None else "",
        model=asked.model,
        task=model.task,
        rows=found.rows,
        skipped=found.broken,
        cut_share=cut,
        seconds=round(time.perf_counter() - started, 3),
        answers=answers,
    )


def records_of(asked: Prediction) -> Records:
    """The rows, their texts in the columns asked for, else in those of the run that made the model."""
    records = Records.of(
        asked.data,
        text=asked.text,
        text_pair=asked.text_pair,
        keep=asked.keep,
        encoding=asked.encoding,
        delimiter=asked.delimiter,
        usual=column_names(asked),
    )
    for note in records.notes:
        logger.info("%s", note)
    return records


@dataclass(frozen=True)
class Checked:
    """Result of the first reading of all rows. kinds: kept column -> type, if all cells share one."""

    rows: int
    broken: int
    kinds: dict[str, str]

    @classmethod
    def of(cls, records: Records, skip_broken: bool) -> "Checked":
        """Reads every row.

        Raises:
            UserError: a broken row, unless they are skipped; no row at all.
        """
        errors: list[UserError] = []
        seen: dict[str, set[str | None]] = {name: set() for name in records.keep}
        rows, broken = 0, 0

        def note(error: UserError) -> None:
            nonlocal broken
            broken += 1
            if not errors:
                errors.append(error)

        for record in records.rows(note if skip_broken else None):
            rows += 1
            for name, cell in record.kept.items():
                seen[name].add(kind_of(cell))
        if not rows:
            raise UserError(
                f"{records.source}: expected rows with a text, got none" + (f" ({errors[0]})" if errors else "")
            )
        if errors:
            logger.warning("%d broken rows are left out, the first: %s", broken, errors[0])
        return cls(rows, broken, {name: one_kind(kinds - {None}) for name, kinds in seen.items()})


def one_kind(kinds: set[Any]) -> str:
    """The kind that all cells of a column fit; "json" for several, "text" for none."""
    if kinds == {"whole", "number"}:
        return "number"
    return next(iter(kinds)) if len(kinds) == 1 else "json" if kinds else "text"


def columns(asked: Prediction, records: Records, found: Checked, answer: Answer, out: Path | None) -> dict[str, Any]:
    """Column of the answers' file -> kind, or type of pyarrow: what is kept, then what is answered.

    Raises:
        UserError: a kept column is called like one of the answers; vectors in a file of fields.
    """
    own = answer.columns(asked.top, asked.probabilities)
    if (asked.top > 1 or asked.probabilities) and answer.labels is None:
        raise UserError(f"--top, --probabilities: expected a model with classes, got one that answers {answer.words}")
    number = {records.unit: "whole"} if asked.skip_broken else {}
    if both := [name for name in records.keep if name in own or name in number]:
        raise UserError(
            f"--keep: expected other columns than those of the answers, got {quoted_each(both)}; rename them in the "
            "file"
        )
    if answer.vector and out is not None and split_name(out)[1] in DELIMITED:
        raise UserError(f"--out: expected .parquet or .jsonl for vectors, got {out.name!r}")
    kept = {name: records.types.get(name, found.kinds[name]) for name in records.keep}
    return {**number, **kept, **own}


def chunks(records: Records, skip_broken: bool) -> Iterator[tuple[bool, list[Record]]]:
    """The rows, up to `CHUNK` at a time, and whether they are the first."""
    first, chunk, size = True, list[Record](), 0
    for record in records.rows((lambda error: None) if skip_broken else None):
        chunk.append(record)
        size += len(record.texts) if isinstance(record.texts, str) else sum(map(len, record.texts))
        if len(chunk) == CHUNK or size > CHARACTERS:
            yield first, chunk
            first, chunk, size = False, [], 0
    if chunk:
        yield first, chunk


def answered(model: Model, chunk: list[Record], records: Records, asked: Prediction) -> list[dict[str, Any]]:
    """The answers to some rows, as they are written.

    Raises:
        UserError: one is NaN or infinity.
    """
    texts: Any = [record.texts for record in chunk]
    answers = model.run(texts, asked.batch_size)
    finite = model.answer.finite(answers)
    if not finite.all():
        wrong = chunk[int(finite.argmin())]
        raise UserError(
            f"{asked.model}: expected finite answers, got NaN or infinity for {records.unit} {wrong.number} of "
            f"{records.source}; train or export the model again"
        )
    made = (model.answer.record(row, asked.top, asked.probabilities) for row in answers)
    number = (lambda n: {records.unit: n}) if asked.skip_broken else (lambda n: {})
    return [{**number(one.number), **one.kept, **found} for one, found in zip(chunk, made, strict=True)]
