"""Semantic textual similarity: the correlation of the cosine of two texts' vectors with people's scores of the pair.

Scores are Spearman x 100 over all pairs of a set at once (Gao et al., 2021 (SimCSE), appendix B: setting "all", no
regressor), as the tables of papers and of MTEB give them. N pairs, S resamples.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
import torch
from torch.nn.functional import cosine_similarity

from contrastill.data.delimited import DELIMITED
from contrastill.data.files import look_up, split_name
from contrastill.data.load import load_task
from contrastill.data.read import Table, read_lines, table_of
from contrastill.data.schema import glue_task
from contrastill.errors import UserError, first_line, quoted_each
from contrastill.evaluation.inference import inference
from contrastill.evaluation.scores import percentiles, spearman
from contrastill.hub import hub_answers

__all__ = [
    "Pairs",
    "load_scored_pairs",
    "load_sts",
    "sts_correlations",
    "sts_intervals",
    "sts_scores",
    "sts_similarities",
]

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of texts, and their similarity as scored by people: higher is closer, on any scale."""

    first: list[str]
    second: list[str]
    scores: Array  # (N,) float64

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Origin:
    """Where a set's official test pairs are, in a folder and on the Hub (the revisions are those of mteb 2.26)."""

    file: str
    hub: str
    revision: str
    pairs: int
    hub_pairs: int
    columns: tuple[str, str, str] = ("sentence1", "sentence2", "score")  # of the file; the Hub's are always these


ORIGINS = {
    "STS12": Origin("STS12/test.tsv", "mteb/sts12-sts", "a0d554a64d88156834ff5ae9920b964011b16384", 3108, 3108),
    "STS13": Origin("STS13/test.tsv", "mteb/sts13-sts", "7e90230a92c190f1bf69ae9002b8cea547a64cca", 1500, 1500),
    "STS14": Origin("STS14/test.tsv", "mteb/sts14-sts", "6031580fec1f6af667f0bd2da0a551cf4f0b2375", 3750, 3750),
    "STS15": Origin("STS15/test.tsv", "mteb/sts15-sts", "ae752c7c21bf194d8b67fd573edf7ae58183cbe3", 3000, 3000),
    "STS16": Origin("STS16/test.tsv", "mteb/sts16-sts", "4d8694f8f0e0100860b497b999b3dbed754a0513", 1186, 1186),
    "STS-B": Origin("STS-B/test.tsv", "mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831", 1379, 1379),
    "SICK-R": Origin(
        "SICK/SICK_test_annotated.txt",
        "mteb/sickr-sts",
        "20a6d6f312dd54037fe07a32d58e5e168867909d",
        4927,
        9927,
        ("sentence_A", "sentence_B", "relatedness_score"),
    ),
}


# ---- pairs


def load_sts(data: str | Path | None = None) -> dict[str, Pairs]:
    """The seven sets STS12 to STS16, STS-B and SICK-R, in the order of the tables in papers; test pairs only.

    data: a folder with STS12/test.tsv … STS16/test.tsv (tab-separated: subset, score, sentence1, sentence2),
        STS-B/test.tsv (GLUE's columns) and SICK/SICK_test_annotated.txt, each in it or in its folders sts and glue.
        Quotes are text. Another number of pairs than the official one is logged, for variants are legitimate.
        None: MTEB's copies on the Hub. One differs: its SICK-R holds all 9 927 pairs, train and trial among them, not
        the 4 927 test pairs; the SICK-R figure, hence the mean, is another (MTEB's) than that of a folder.

    Raises:
        UserError: a set or a column is missing, a row is broken; with the file and line.
    """
    return _from_hub() if data is None else _from_folder(Path(data).expanduser())


def load_scored_pairs(source: str | Path, encoding: str = "utf-8", delimiter: str | None = None) -> Pairs:
    """Pairs that select a checkpoint: the dev split of `glue/stsb`, of a Hub data set or of a folder, or all of a file.

    A file (.csv, .tsv, .jsonl or .parquet, packed or not) has two texts and a number a row. A folder or data set
    without dev gives its train split, never test.
    """
    name, (path, there) = str(source), look_up(source)
    glue = re.match(r"(nyu-mll/)?glue[/:]", name, re.IGNORECASE) or (
        there == "folder" and glue_task(path.resolve().name)
    )
    wanted = f"expected a score per pair from {name}"
    between = delimiter if there == "folder" or split_name(path)[1] in DELIMITED else None
    try:  # only GLUE says itself what its labels are; elsewhere whole numbers are scores too
        data = load_task(source, kind=None if glue else "regression", dev_share=0, encoding=encoding, delimiter=between)
    except UserError as error:
        found = str(error).partition("; ")[0]  # the rest is about options of other commands
        raise UserError(
            f"{wanted}: {found}. Give two texts and a number a row, in columns sentence1, sentence2 and score"
        ) from error
    if data.schema.kind != "regression":
        raise UserError(f"{wanted}, got the classes {', '.join(data.schema.labels[:8])}; choose pairs with numbers")
    if data.schema.text_pair is None:
        raise UserError(f"{wanted}, got one text a row; name the columns of the texts sentence1 and sentence2")
    rows = data.dev if data.dev is not None else data.train
    if rows is None:
        raise UserError(
            f"{wanted}, got a test split alone, which must not select the checkpoint; rename it if it is dev"
        )
    return Pairs(rows["text"][:], rows["text_pair"][:], np.array(rows["label"][:], dtype=np.float64))


def _from_folder(folder: Path) -> dict[str, Pairs]:
    if look_up(folder)[1] != "folder":
        raise UserError(
            f"expected a folder with the STS sets, got {str(folder)!r}, which is not a folder; check the path"
        )
    places = [folder, folder / "sts", folder / "glue"]
    paths = {
        name: next((place / origin.file for place in places if (place / origin.file).is_file()), None)
        for name, origin in ORIGINS.items()
    }
    if missing := [ORIGINS[name].file for name, path in paths.items() if path is None]:
        raise UserError(
            f"{folder}: expected {', '.join(missing)} in it or in its folders sts and glue, got no such file; add what "
            "is missing, or leave the folder out to fetch all sets from the Hub"
        )
    sets = {}
    for name, path in paths.items():
        assert path is not None
        sets[name] = _pairs(_table(path), ORIGINS[name].columns)
        if len(sets[name]) != ORIGINS[name].pairs:
            logger.warning(
                "%s: %d pairs, the official %s has %d: the score compares with no published one",
                path,
                len(sets[name]),
                name,
                ORIGINS[name].pairs,
            )
    return sets


def _from_hub() -> dict[str, Pairs]:
    from datasets import load_dataset

    hub_answers()
    sets = {}
    for name, origin in ORIGINS.items():
        try:
            rows = load_dataset(origin.hub, split="test", revision=origin.revision)
        except Exception as error:  # the library raises many: offline, gated, a cut download
            raise UserError(
                f"expected to read {origin.hub} from the Hugging Face Hub, got {type(error).__name__}: "
                f"{first_line(error)}; check the network, or pass a folder with the sets (--data)"
            ) from error
        sets[name] = _pairs(table_of(rows, f"{origin.hub} test"), ("sentence1", "sentence2", "score"))
        if len(sets[name]) != origin.hub_pairs:
            raise UserError(
                f"{origin.hub}: expected {origin.hub_pairs} test pairs, got {len(sets[name])}; empty the cache of "
                "datasets and try again, or pass a folder with the sets (--data)"
            )
    return sets


def _table(path: Path) -> Table:
    """A tab-separated file in which quotes are text: taken as csv, a stray one would swallow rows."""
    lines, blank = read_lines(path, "utf-8")
    if blank:
        raise UserError(f"{path}: expected a pair in every line, got {blank} blank ones; remove them")
    header, *rows = (line.split("\t") for line in lines)
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line}: expected {len(header)} fields as in the header ({quoted_each(header)}), "
                f"got {len(row)}; look for a missing or stray tab"
            )
    return Table(str(path), pd.DataFrame(rows, columns=header, index=range(2, len(rows) + 2), dtype=object))


def _pairs(table: Table, columns: tuple[str, str, str]) -> Pairs:
    for column in columns:
        if column not in table.frame:
            there = quoted_each(table.frame.columns)
            hint = " (GLUE's own STS-B test hides its scores: take the STS benchmark's)" if column == "score" else ""
            raise UserError(f"{table.name}: expected a column {column!r}, got {there}; use the official file{hint}")
    if table.frame.empty:
        raise UserError(f"{table.name}: expected pairs, got a header only; add rows")
    first, second, score = (table.frame[column] for column in columns)
    for texts in (first, second):
        for line, text in texts.items():
            if not (isinstance(text, str) and text.strip()):
                raise UserError(
                    f"{table.name}, {table.unit} {line}: expected a text in column {texts.name!r}, got {text!r}; fill "
                    "it in or remove the row"
                )
    scores = pd.to_numeric(score, errors="coerce").astype(np.float64)
    for line in scores.index[~np.isfinite(scores)]:
        raise UserError(
            f"{table.name}, {table.unit} {line}: expected a number in column {score.name!r}, got {score[line]!r}; "
            "correct it or remove the row"
        )
    return Pairs(first.tolist(), second.tolist(), scores.to_numpy())


# ---- scores


def sts_similarities(model: Any, sets: Mapping[str, Pairs], batch_size: int = 64) -> dict[str, Array]:
    """Cosines (N,), float64, of each set. A text is encoded once, however many pairs and sets it is in.

    model: a `SentenceTransformer`, or anything with its `encode`.
    """
    texts = list(dict.fromkeys(text for pairs in sets.values() for text in (*pairs.first, *pairs.second)))
    with inference(model) if hasattr(model, "modules") else nullcontext():  # `encode` leaves it in eval mode
        vectors = np.asarray(model.encode(texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False))
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise UserError(
            f"expected finite vectors, got NaN or infinity for {(~finite).sum()} of {len(texts)} texts, the first "
            f"{texts[finite.argmin()]!r:.80}; the training diverged (lower the learning rate) or the weights did not "
            "load"
        )
    place = {text: row for row, text in enumerate(texts)}
    found = {}
    for name, pairs in sets.items():
        a, b = (
            torch.from_numpy(vectors[[place[text] for text in side]].astype(np.float64))
            for side in (pairs.first, pairs.second)
        )
        found[name] = cosine_similarity(a, b).numpy()
    return found


def sts_correlations(similarities: Mapping[str, Array], sets: Mapping[str, Pairs]) -> dict[str, float]:
    """Spearman x 100 of each set, and under "mean" their plain mean, to two decimals; constant cosines score 0."""
    scores = {name: 100 * spearman(similarities[name], pairs.scores) for name, pairs in sets.items()}
    scores["mean"] = float(np.mean(list(scores.values())))
    return {name: round(value, 2) for name, value in scores.items()}


def sts_scores(model: Any, sets: Mapping[str, Pairs], batch_size: int = 64) -> dict[str, float]:
    """The row of a paper's table: {"STS12": 72.37, …, "SICK-R": 77.15, "mean": 78.87}."""
    return sts_correlations(sts_similarities(model, sets, batch_size), sets)


def sts_intervals(
    similarities: Mapping[str, Array],
    sets: Mapping[str, Pairs],
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap interval of each set's score and of their mean: what other such pairs could have said.

    Pairs are drawn with replacement within each set and ranked anew in each resample; the mean's interval is over the
    means of the sets' resamples. It says nothing of another seed of the training.
    """
    random = np.random.default_rng(seed)
    resampled = {name: _resampled(similarities[name], pairs.scores, samples, random) for name, pairs in sets.items()}
    resampled["mean"] = np.mean(list(resampled.values()), axis=0)
    intervals = {}
    for name, values in resampled.items():
        low, high = percentiles(values, level)
        intervals[name] = (round(low, 2), round(high, 2))
    return intervals


def _resampled(similarities: Array, scores: Array, samples: int, random: np.random.Generator) -> Array:
    """Spearman x 100 (S,) of resampled pairs."""
    found = []
    for start in range(0, samples, 100):  # 100 at a time: 4 MB an array
        drawn = random.integers(len(scores), size=(min(100, samples - start), len(scores)))
        a, b = (scipy.stats.rankdata(side[drawn], axis=1) - (len(scores) + 1) / 2 for side in (similarities, scores))
        spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
        found.append(100 * np.divide((a * b).sum(axis=1), spread, out=np.zeros(len(a)), where=spread > 0))
    return np.concatenate(found)
