"""A sentence-embedding teacher that is a file of vectors: no model is run."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from contrastill.data.corpus import Corpus, keys_of_ids, read_for_teacher
from contrastill.data.vectors import VectorFile
from contrastill.encoder import Wanted
from contrastill.errors import UserError
from contrastill.processes import bar_pause, processes
from contrastill.teachers.folder import make_cache_folder
from contrastill.teachers.stored import CachedTeacher

__all__ = ["VectorTeacher"]

ROWS = 8_192  # written at a time


@dataclass(frozen=True)
class NoModel:
    """What a teacher tells of itself, without a model."""

    width: int
    fingerprint: str
    model: None = None
    depth: int = 0
    heads: int = 0
    answers: str = "text"

    @property
    def gives(self) -> Mapping[str, int]:
        return {"pooled": self.width}


class VectorTeacher(CachedTeacher):
    """The vectors of a file, stored as an embedder's are, under the token ids by which the student reads a text.

    tokenizer, max_length: the student's.

    Raises:
        UserError: a row that has no text or no vector; two different vectors of one text.
    """

    prompt = ""

    def __init__(self, file: VectorFile, tokenizer: Any, max_length: int, root: Path, stored: str = "float16") -> None:
        self.texts = file.check()
        read_by = f"{type(tokenizer).__name__} {sorted(tokenizer.get_vocab().items())} {max_length}"
        digest = hashlib.sha256(f"{file.fingerprint} {read_by}".encode()).hexdigest()
        live: Any = NoModel(file.width, digest)
        super().__init__(live, Wanted(pooled=True), root, stored=stored, computed="float32", name=file.name)
        self.file, self.tokenizer, self.max_length = file, tokenizer, max_length

    def fill_for(self, corpus: Corpus) -> Corpus:
        """Stores the file's vectors, unless those of all texts are stored. Returns the texts that have one.

        Raises:
            UserError: none of the texts has; the disk has no room.
        """
        if len(self.missing(corpus.keys())):
            make_cache_folder(self.root)
            world = processes()
            if world.is_main_process:
                self.store_all()
            world.wait_for_everyone()
            self.refresh()
        (store,) = self.stores.values()
        there = np.flatnonzero(store.find(corpus.keys()) >= 0)
        if not len(there):
            raise UserError(
                f"{self.name}: expected vectors of the texts, got none of any of {len(corpus):,}: texts are found by "
                "their characters, all of them; give the vectors beside the texts as they are in --texts"
            )
        return corpus.part(there)

    def store_all(self) -> None:
        (store,) = self.stores.values()
        self.check_room(max(0, self.texts - len(store)))
        options: Any = {"unit": " texts", "dynamic_ncols": True, "mininterval": bar_pause(), "file": sys.stderr}
        with tqdm(total=self.texts, desc="teacher's vectors", **options) as bar:
            for texts, vectors in self.file.batches(ROWS):
                keys = keys_of_ids(read_for_teacher(self.tokenizer, self.prompt, texts, self.max_length))
                _, first = np.unique(keys, axis=0, return_index=True)  # the tokenizer may read several texts alike
                new = first[store.find(keys[first]) < 0]
                if len(new):
                    store.append(keys[new], np.ones(len(new)), torch.from_numpy(vectors[new]))
                bar.update(len(texts))
