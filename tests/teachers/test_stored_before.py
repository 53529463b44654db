"""A cache written at commit df438eb, when fields were strings, is found, verified and read."""

import shutil
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from contrastill.data.collate import Collate, content_key
from contrastill.encoder import Wanted
from contrastill.teachers import CachedTeacher, entries, fingerprint, verify

FOLDER = Path(__file__).parent / "stored_before"
TEXTS = [[5, 6], [7, 8, 9]]


class Elsewhere:
    """The teacher that filled it, which must not be run again: of width 2, 1 layer, 1 head, 2 classes."""

    prompt, fingerprint, width, depth, heads, answers = "", "0123456789abcdef" * 4, 2, 1, 1, "text"
    gives = {"logits": 2, "hidden": 2, "attention": 1, "pooled": 2}
    model = SimpleNamespace(device=torch.device("cpu"))

    def __call__(self, batch: dict[str, Tensor], needs: Collection[str]) -> Any:
        raise AssertionError("the teacher was run")


def read(wanted: Wanted, stored: str, root: Path) -> Any:
    rows = [
        {"input_ids": ids, "labels": 0, "text_key": n, "index": n, "content": content_key(ids)}
        for n, ids in enumerate(TEXTS)
    ]
    collate = Collate(SimpleNamespace(pad_token_id=0, pad_token_type_id=0, padding_side="right"))
    of = CachedTeacher(Elsewhere(), wanted, root, stored=stored, computed="float32")
    assert of.fill([rows], collate) == 0
    return of(collate(rows))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy: a store that is opened notes when it was last used."""
    return Path(shutil.copytree(FOLDER, tmp_path / "cache"))


def test_logits_tokens_and_attention_in_float16(root: Path) -> None:
    found = read(Wanted(logits=True, layers=(0,), attention=(1,)), "float16", root)
    assert found.logits.tolist() == [[11, 5], [24, 7]]
    assert found.hidden[0].tolist() == [[[5, -5], [6, -6], [0, 0]], [[7, -7], [8, -8], [9, -9]]]
    assert found.hidden[1] is None
    assert found.attention[0].tolist() == [
        [[[55, 56, 0], [65, 66, 0], [0, 0, 0]]],
        [[[77, 78, 79], [87, 88, 89], [97, 98, 99]]],
    ]


def test_first_tokens_in_bfloat16(root: Path) -> None:
    found = read(Wanted(layers=(1,), granularity="cls"), "bfloat16", root)
    assert found.hidden[1].tolist() == [[[2.5, -2.5]], [[3.5, -3.5]]]
    assert found.mask.tolist() == [[True], [True]]


def test_means_in_int8(root: Path) -> None:
    found = read(Wanted(layers=(1,), granularity="mean"), "int8", root)
    torch.testing.assert_close(found.hidden[1], torch.tensor([[[2.75, -2.75]], [[4.0, -4.0]]]))


def test_vectors_in_float32(root: Path) -> None:
    assert read(Wanted(pooled=True), "float32", root).pooled.tolist() == [[11, -11], [24, -24]]


def test_it_is_listed_and_whole(root: Path) -> None:
    found = {entry.facts.field: (entry.name, entry.texts, entry.damaged) for entry in entries(root)}
    names = {"logits", "vector", "layer-0-tokens", "layer-1-cls", "layer-1-mean", "attention-1"}
    assert found == dict.fromkeys(names, ("org/old", 2, False))
    assert all(whole for _, whole in verify(root))


def test_a_teacher_has_the_fingerprint_that_it_had() -> None:
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.fill_(3.0)
    facts = {"layers": 1, "_name_or_path": "somewhere", "transformers_version": "4", "dtype": "float32"}
    assert fingerprint(model, facts) == "98c416d4f78673be94da530fce61fb56258a8f1cecd5b47b5f7b16713be57eb0"
