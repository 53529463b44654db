"""`contrastill augment`: copies of training texts with other words, written chunk by chunk.

Algorithm 1 of TinyBERT (Jiao et al., Findings of EMNLP 2020, arXiv:1909.10351). What differs: the words come from the
model at hand, without GloVe; a word's candidates hold other words alone; the commonest words stay (its code has a list
of English ones); a copy of a pair has other words in both texts; no label is kept, and no row of the data repeated.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.augmenting.candidates import Candidates, Masked
from contrastill.augmenting.store import Store, check_out
from contrastill.augmenting.words import commonest, folded, replaceable
from contrastill.data.load import TaskData, keys_of, text_key
from contrastill.errors import UserError
from contrastill.loading import (
    encoder_inside,
    input_length,
    load_embedder,
    load_language_model,
    load_tokenizer,
    locate,
    model_folder,
)
from contrastill.memory import Held
from contrastill.screen import progress
from contrastill.settings import Augmentation
from contrastill.tasks import load_rows
from contrastill.teachers import fingerprint
from contrastill.training.teacher_run import adopted

__all__ = ["Augmented", "augment"]

logger = logging.getLogger(__name__)

CHUNK = 64  # rows that are written together, and whose masked words share batches
Texts = tuple[str, ...]  # of a row: one, or two


@dataclass
class Augmented:
    """Result of `augment`.

    by: the source of the words; rows: training rows; stored: texts in the file before this call; written: in it now;
    repeated: copies left out, as they are texts of the data or of the file; replaced: share of the words that were
    replaced in a copy; beyond: words beyond the length, which stay.
    """

    out: str
    by: str
    rows: int
    stored: int
    written: int
    repeated: int
    replaced: float
    beyond: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def augment(**settings: Any) -> Augmented:
    """Makes further texts of training texts, by other words in place of some. Settings: see `Augmentation`.

    Of data with several splits train alone is read, and of one file the rows that a run would hold out for dev are
    left out. A killed or repeated call goes on where the file ends, and leaves the same file.

    Raises:
        UserError: bad settings, data or model; the texts in `out` were made with other settings.
        KeyboardInterrupt: stopped; what was written stays.
    """
    asked, _ = adopted(Augmentation.given(settings), settings.get("model"))
    out = Path(asked.out).expanduser()
    check_out(out, file_of(asked.data))
    model_folder(asked.model)
    data = rows_of(asked)
    columns = tuple(name for name in (data.schema.text, data.schema.text_pair) if name is not None)
    tokenizer, model, head = opened(asked)
    by = asked.by or ("masked-lm" if head else "nearest")
    logger.info("words: %s", reason(asked, by, head))
    length = input_length(asked.max_length, asked.model, tokenizer, model.config)
    table: Any = model.get_input_embeddings()
    settled = {
        "data": data.fingerprint(), "columns": [*columns], "model": asked.model,
        "weights": fingerprint(model if by == "masked-lm" else table, {}), "by": by, "copies": asked.copies,
        "probability": asked.probability, "candidates": asked.candidates, "common": asked.common, "seed": asked.seed,
        "max_length": length.tokens,
    }  # fmt: skip
    seen = {int(key) for split in data.splits.values() for key in keys_of(split)}
    with Store(out, columns, seen).opened(asked.overwrite) as store:
        store.begin(settled, asked.overwrite)
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
        model.eval().requires_grad_(False).to(device)
        rows = texts_of(data)
        common = commonest((text for each in rows for text in each), asked.common)
        words = Candidates(
            tokenizer, table.weight.detach(), model if by == "masked-lm" else None, asked.candidates,
            asked.batch_size, common,
        )  # fmt: skip
        return Call(asked, store, Reader(tokenizer, length.tokens), words).run(rows, by)


def file_of(data: str | None) -> Path | None:
    return None if data is None or isinstance(data, Held) else Path(data).expanduser()


def rows_of(asked: Augmentation) -> TaskData:
    """The data as a run reads them.

    Raises:
        UserError: none, entities, or no training rows.
    """
    if asked.data is None:
        raise UserError(
            f"--data: expected the training texts, got none, and {asked.model} is no model of a run that tells its "
            "own; give --data, or as --model the folder of a finetune run"
        )
    data = load_rows(asked.data, **asked.reading())
    if data.schema.kind == "tagging":
        raise UserError(
            "--data: expected texts with labels, or pairs, got texts with entities, which other words would move; "
            "for a tagger pass texts of its kind by distill --unlabelled"
        )
    if data.train is None:
        raise UserError(f"{asked.data}: expected training rows, got {', '.join(data.splits)} alone; add a train file")
    return data


def texts_of(data: TaskData) -> list[Texts]:
    """The texts of the training rows."""
    train = data.train
    if train is None:
        return []
    return list(zip(*(train[name][:] for name in ("text", "text_pair") if name in train.column_names), strict=True))


def opened(asked: Augmentation) -> tuple[Tokenizer, PreTrainedModel, bool]:
    """Tokenizer, model, and whether it has a masked-LM head.

    Raises:
        UserError: no such model; none with a head where one is asked for.
    """
    place = locate(asked.model)
    if place.embeds and place.subfolder:
        embedder = load_embedder(asked.model)
        encoder = encoder_inside(embedder)
        if encoder is None:
            raise UserError(f"{asked.model}: expected a model with a transformer, got one without; choose another")
        tokenizer, model, head = embedder.tokenizer, encoder, False
    else:
        tokenizer = load_tokenizer(asked.model)
        model, head = load_language_model(asked.model)
    head = head and tokenizer.mask_token_id is not None
    if asked.by == "masked-lm" and not head:
        raise UserError(
            f"--by: expected a model with a masked-LM head for masked-lm, got {asked.model}, whose weights have none; "
            "give a masked language model (bert-base-uncased) as --model, or pass --by nearest"
        )
    return tokenizer, model, head


def reason(asked: Augmentation, by: str, head: bool) -> str:
    """The source of the words, and why it is that."""
    if by == "masked-lm":
        why = "the likeliest in their context, by its masked-LM head; words of several tokens: the nearest"
    else:
        why = "the nearest in its table of embeddings" + (", as asked for" if head else "; it has no masked-LM head")
    return f"{asked.model}: {why}"


# ---- texts and their words


class Word(NamedTuple):
    """A word that may be replaced: which text of its row, where, and its token; -1: it has several."""

    text: int
    start: int
    end: int
    token: int


class Read(NamedTuple):
    """A row: its texts, their words, and their tokens as the model reads them. beyond: words that it does not read."""

    texts: Texts
    words: list[Word]
    ids: list[int]
    types: list[int] | None
    beyond: int

    def word(self, number: int) -> str:
        one = self.words[number]
        return self.texts[one.text][one.start : one.end]


@dataclass(frozen=True)
class Reader:
    tokenizer: Tokenizer
    length: int

    def rows(self, texts: Sequence[Texts]) -> list[Read]:
        """Rows as a model reads them."""
        parts = [list(each) for each in zip(*texts, strict=True)]
        read = self.tokenizer(*parts, truncation=True, max_length=self.length)
        types = read.get("token_type_ids")
        found = []
        for row, each in enumerate(texts):
            spans = [(n, *span) for n, text in enumerate(each) for span in replaceable(text)]
            tokens = [self.token(read, row, each, *span) for span in spans]
            words = [Word(*span, token) for span, token in zip(spans, tokens, strict=True) if token is not None]
            beyond = len(spans) - len(words)
            found.append(Read(each, words, read["input_ids"][row], types[row] if types else None, beyond))
        return found

    def token(self, read: Any, row: int, texts: Texts, text: int, start: int, end: int) -> int | None:
        """The token that is a word; -1: it has several; None: the model does not read it."""
        first, last = (read.char_to_token(row, place, text) for place in (start, end - 1))
        if first is None or last is None:
            return None
        if first != last:
            return -1
        shown = read.token_to_chars(row, first)
        alone = texts[text][shown.start : shown.end].strip() == texts[text][start:end]
        return int(first) if alone and read["input_ids"][row][first] != self.tokenizer.unk_token_id else -1


# ---- the call


@dataclass
class Call:
    asked: Augmentation
    store: Store
    reader: Reader
    candidates: Candidates

    def run(self, texts: Sequence[Texts], by: str) -> Augmented:
        """Writes the copies of the rows that the file lacks.

        Raises:
            KeyboardInterrupt: stopped; what was written stays.
        """
        begun, stored, first = time.perf_counter(), self.store.done["written"], self.store.done["rows"]
        if stored:
            logger.info("%d texts, of %d rows, are in %s already", stored, first, self.store.out)
        with progress(len(texts) - first) as advance:
            try:
                for start in range(first, len(texts), CHUNK):
                    some = texts[start : start + CHUNK]
                    self.write(start, some)
                    advance(len(some))
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"{self.store.done['written']:,} texts are in {self.store.out}; the same call goes on from there"
                ) from None
        done = self.store.done
        if not done["written"]:
            self.store.discard()
            raise UserError(
                f"{self.asked.data}: expected texts with words that {self.asked.model} has others for, got none; "
                "choose a --model of their language, or a lower --common"
            )
        if done["beyond"]:
            logger.info("%d words are beyond %d tokens, and stay as they are", done["beyond"], self.reader.length)
        return Augmented(
            out=str(self.store.out),
            by=by,
            rows=len(texts),
            stored=stored,
            written=done["written"],
            repeated=done["repeated"],
            replaced=round(done["replaced"] / max(1, done["words"]), 4),
            beyond=done["beyond"],
            seconds=round(time.perf_counter() - begun, 3),
        )

    def write(self, start: int, texts: Sequence[Texts]) -> None:
        """Writes the copies of a chunk of rows. start: the number of the first."""
        read = self.reader.rows(texts)
        drawn = [self.drawn(start + n, row) for n, row in enumerate(read)]
        found = self.words_for(read, [np.flatnonzero(changed.any(0)).tolist() for changed, _ in drawn])
        counts: Counter[str] = Counter(rows=len(texts), beyond=sum(row.beyond for row in read))
        made = []
        for row, (changed, picks), words in zip(read, drawn, found, strict=True):
            for each, pick in zip(changed, picks, strict=True):
                new = {n: words[n][int(pick[n] * len(words[n]))] for n in np.flatnonzero(each).tolist() if words[n]}
                copy = with_words(row, new)
                counts.update(words=len(row.words), replaced=len(new))
                key = text_key(*copy)
                if key in self.store.seen:
                    counts["repeated"] += 1
                    continue
                self.store.seen.add(key)
                made.append(copy)
        self.store.add(made, counts)

    def drawn(self, number: int, row: Read) -> tuple[np.ndarray, np.ndarray]:
        """(copies, words) which words are replaced, and a number from 0 to 1 that picks by which."""
        seeds = ((self.asked.seed, number, copy) for copy in range(self.asked.copies))
        draws = np.stack([np.random.default_rng(seed).random((2, len(row.words))) for seed in seeds])
        rare = np.array([folded(row.word(n)) not in self.candidates.left for n in range(len(row.words))], bool)
        return (draws[:, 0] < self.asked.probability) & rare, draws[:, 1]

    def words_for(self, read: Sequence[Read], wanted: Sequence[list[int]]) -> list[dict[int, tuple[str, ...]]]:
        """The candidates of each row's wanted words, by the words' numbers."""
        places = [(row, n) for row, each in enumerate(wanted) for n in each]
        masked = [(row, n) for row, n in places if self.candidates.model is not None and read[row].words[n].token >= 0]
        found: list[dict[int, tuple[str, ...]]] = [{} for _ in read]
        likely = self.candidates.in_context([self.masked(read[row], n) for row, n in masked])
        for (row, n), words in zip(masked, likely, strict=True):
            found[row][n] = words
        others = [(row, n) for row, n in places if n not in found[row]]
        near = self.candidates.nearest([read[row].word(n) for row, n in others])
        for (row, n), words in zip(others, near, strict=True):
            found[row][n] = words
        return found

    def masked(self, row: Read, number: int) -> Masked:
        place = row.words[number].token
        ids = [*row.ids[:place], int(self.reader.tokenizer.mask_token_id or 0), *row.ids[place + 1 :]]
        return Masked(row.word(number), ids, row.types, place)


def with_words(row: Read, new: dict[int, str]) -> Texts:
    """The texts of a row with other words, by the words' numbers; all else stays as it is."""
    parts: list[list[str]] = [[] for _ in row.texts]
    ends = [0] * len(row.texts)
    for number, word in sorted(new.items()):
        text, start, end, _ = row.words[number]
        parts[text] += [row.texts[text][ends[text] : start], word]
        ends[text] = end
    return tuple("".join(part) + text[end:] for part, text, end in zip(parts, row.texts, ends, strict=True))
