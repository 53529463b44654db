"""From a file, a folder or a Hub data set to prompts with answers: train, dev, test."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
from datasets import Dataset

from contrastill.data.division import divide
from contrastill.data.load import check_options, split_tables, text_key
from contrastill.data.prompt_rows import Prompt, columns_of, prompt_rows
from contrastill.data.rows import hides_labels
from contrastill.data.schema import Schema
from contrastill.data.sources import find_tables
from contrastill.errors import UserError
from contrastill.memory import Rows, held

__all__ = ["PromptData", "load_prompts", "row_key"]

logger = logging.getLogger(__name__)

BY_LOT = Schema("", "regression", "prompt", None, "label", (), ())  # rows without classes to hold in proportion


@dataclass(frozen=True)
class PromptData:
    """Prompts with answers. Each split has example_id, prompt and answer, texts exactly as found.

    chat: whether a prompt is a conversation, a list of {"role", "content"}; else it is a text.
    """

    name: str
    chat: bool
    train: Dataset
    dev: Dataset | None
    test: Dataset | None
    decisions: Mapping[str, str] = field(default_factory=dict)  # what was decided -> how

    @property
    def splits(self) -> dict[str, Dataset]:
        found = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def fingerprint(self) -> str:
        """A sha256 of every row of every split: equal data, equal fingerprint."""
        digest = hashlib.sha256(json.dumps(["prompts", self.chat]).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.to_dict()]).encode())
        return digest.hexdigest()

    def report(self) -> str:
        """The decisions, a line each."""
        return "\n".join([f"data: {self.name}", *(f"  {name}: {how}" for name, how in self.decisions.items())])

    def describe(self) -> dict[str, Any]:
        """Rows per split and what to know about them.

        prompts: different ones. duplicates: rows whose prompt and answer stand in an earlier row of the split.
        also_in_train: rows whose prompt is one of train's, whatever the answer.
        """
        rows: dict[str, dict[str, int]] = {}
        of_train: set[int] = set()
        for name, split in self.splits.items():
            prompts, answers = split["prompt"][:], split["answer"][:]
            keys = [prompt_key(prompt) for prompt in prompts]
            whole = {row_key(*row) for row in zip(prompts, answers, strict=True)}
            rows[name] = {
                "rows": len(split),
                "prompts": len(set(keys)),
                "empty_answers": answers.count(""),
                "duplicates": len(split) - len(whole),
            }
            if name == "train":
                of_train = set(keys)
            else:
                rows[name]["also_in_train"] = sum(key in of_train for key in keys)
        kind = "conversations" if self.chat else "prompts"
        return {"task": self.name, "kind": kind, "splits": rows, "decisions": dict(self.decisions)}


def text_of(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def prompt_key(prompt: Prompt) -> int:
    return text_key(text_of(prompt))


def row_key(prompt: Prompt, answer: str) -> int:
    """A stable 63-bit hash of a prompt with its answer, whatever tokenizer reads them."""
    return text_key(text_of(prompt), answer)


def load_prompts(
    source: str | Path | Rows,
    *,
    prompt: str | None = None,
    answer: str | None = None,
    messages: str | None = None,
    dev: str | Path | Rows | None = None,
    test: str | Path | Rows | None = None,
    dev_share: float | None = None,
    limit: int | None = None,
    seed: int = 0,
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> PromptData:
    """Load prompts with answers and check every row. What was decided is logged, and is in `PromptData.decisions`.

    Texts are kept as they are, white space included. An empty answer is one (the end token alone); a row without an
    answer (null, or no such key), or with neither prompt nor answer, is left out and counted.

    Args:
        source: `org/name` or `org/name:config` on the Hub, a folder with train / dev / test files, or one file of
            training rows (.csv, .tsv, .jsonl, .json, .parquet; .gz, .xz); or rows as objects, as for `load_task`.
        prompt, answer: columns of the texts; without them those with a usual name, where these leave no doubt.
        messages: column of whole conversations, lists of {"role", "content"}: the assistant's last message is the
            answer, those before it are the prompt. Without it "messages", if there is one.
        dev, test: further files, in place of those the source has.
        dev_share: the share of train's prompts that becomes dev if there is none, with all their answers; 0 for no dev.
            Default: a tenth; of fewer than 1,000 up to a quarter, so that there are 100.
        limit: keep so many of the training rows.
        seed: picks the prompts of the dev share and the rows of `limit`.
        encoding, delimiter: of the text files, where they are not UTF-8, and not what a file's name and header tell.

    Raises:
        UserError: no such source or columns, no training rows, cells that are no texts, more than 5 % broken rows.
    """
    check_options(None, None, dev_share, limit)
    found = find_tables(held(source, "source"), own=True, encoding=encoding, delimiter=delimiter)
    decided: dict[str, str] = {}
    given = {"dev": held(dev, "dev"), "test": held(test, "test")}
    tables, files = split_tables(found, given, encoding, delimiter, False, decided)
    if "train" not in tables:
        raise UserError(f"{found.name}: expected training rows, got {', '.join(tables)} only; add a train file")
    told = [note for table in tables.values() for note in table.notes]
    columns = columns_of(tables["train"], prompt, answer, messages, decided)
    notes: list[str] = []
    if "test" in tables and found.public and test is None and hides_labels(tables["test"], columns[-1]):
        notes.append(f"{tables.pop('test').name} has no answers and was left out")
        del files["test"]
        decided["files"] = ", ".join(f"{split}: {file}" for split, file in files.items())
    frames = {split: prompt_rows(table, columns, split, notes) for split, table in tables.items()}
    divide_prompts(frames, tables["train"].name, dev_share, limit, seed, decided)
    decided |= {name: "; ".join(said) for name, said in (("reading", told), ("rows", notes)) if said}
    chat = len(columns) == 1
    built = {split: dataset_of(frame, chat) for split, frame in frames.items()}
    data = PromptData(found.name, chat, built["train"], built.get("dev"), built.get("test"), decided)
    logger.info("%s", data.report())
    return data


def divide_prompts(
    frames: dict[str, pd.DataFrame],
    name: str,
    dev_share: float | None,
    limit: int | None,
    seed: int,
    decided: dict[str, str],
) -> None:
    """Holds out a dev split where there is none, and keeps as many training rows as `limit` says.

    Prompts are held out with all their answers, so that none of dev's is learnt from.

    Raises:
        UserError: too few prompts.
    """
    train = frames["train"].assign(label=0.0)
    if "dev" not in frames and dev_share != 0:
        keys = train["prompt"].map(prompt_key)
        once = {"train": train[~keys.duplicated()]}
        if len(once["train"]) < 2:
            raise UserError(
                f"{name}: expected at least two different prompts, so that some can be held out, got one in "
                f"{len(train)} {'row' if len(train) == 1 else 'rows'}; pass --dev FILE, or --dev-share 0"
            )
        divide(once, BY_LOT, name, dev_share=dev_share, limit=None, seed=seed, decided={})
        chosen = keys.isin(keys[once["dev"].index])
        decided["dev"] = f"{int(chosen.sum())} of {len(train)} rows of train, held out by prompt"
        frames["dev"], train = train[chosen], train[~chosen]
    kept = {"train": train}
    divide(kept, BY_LOT, name, dev_share=0.0, limit=limit, seed=seed, decided={})
    frames["train"] = kept["train"]


def dataset_of(frame: pd.DataFrame, chat: bool) -> Dataset:
    text = datasets.Value("string")
    prompt = datasets.List({"role": text, "content": text}) if chat else text
    features = datasets.Features({"example_id": text, "prompt": prompt, "answer": text})
    return Dataset.from_dict({column: frame[column].tolist() for column in features}, features=features)
