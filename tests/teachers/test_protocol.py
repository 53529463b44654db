"""Every teacher keeps what the protocol says, and a field is read by the name that it is given."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import PreTrainedTokenizerFast

from contrastill.data.collate import Collate, content_key
from contrastill.encoder import GRANULARITIES, Wanted
from contrastill.errors import UserError
from contrastill.teachers import CachedEmbedder, CachedTeacher, FrozenEncoder, SideBySide, outputs_named
from contrastill.teachers.embedder import FrozenEmbedder
from contrastill.teachers.fields import Field, fields_of

COLLATE = Collate(SimpleNamespace(pad_token_id=1, pad_token_type_id=0, padding_side="right"))
IDS = [[2, 7, 9], [2, 8, 6, 11, 5]]
ROWS = [
    {"input_ids": ids, "labels": 0, "text_key": n, "index": n, "content": content_key(ids), "text": str(n)}
    for n, ids in enumerate(IDS)
]


@pytest.fixture
def embedder(tiny_model: Callable[..., Any], tmp_path: Path) -> str:
    """The folder of a sentence-embedding model."""
    st = pytest.importorskip("sentence_transformers")
    words = {word: n for n, word in enumerate(["[UNK]", "[PAD]", "[CLS]", "[SEP]", *"abcdefgh"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="[UNK]")), pad_token="[PAD]", model_max_length=16
    )
    for each in (tiny_model().base_model, tokenizer):
        each.save_pretrained(tmp_path / "encoder")
    st.SentenceTransformer(str(tmp_path / "encoder"), device="cpu").save(str(tmp_path / "embedder"))
    return str(tmp_path / "embedder")


def frozen(tiny_model: Callable[..., Any], _embedder: str, _root: Path) -> Any:
    return FrozenEncoder(tiny_model().eval())


def stored(tiny_model: Callable[..., Any], _embedder: str, root: Path) -> Any:
    live = FrozenEncoder(tiny_model().eval())
    of = CachedTeacher(live, Wanted(logits=True, layers=(0, 1, 2), attention=(1, 2)), root)
    of.fill([ROWS], COLLATE)
    return of


def frozen_embedder(_model: Any, embedder: str, _root: Path) -> Any:
    from contrastill.loading import load_embedder

    return FrozenEmbedder(load_embedder(embedder))


def stored_embedder(_model: Any, embedder: str, root: Path) -> Any:
    of = CachedEmbedder(embedder, root, 16)
    of.fill_rows([ROWS], len(ROWS))
    return of


def one_of_one(model: Any, embedder: str, root: Path) -> Any:
    return SideBySide([stored_embedder(model, embedder, root)])


@pytest.mark.parametrize("made", [frozen, stored, frozen_embedder, stored_embedder, one_of_one])
def test_a_teacher_says_what_it_gives_and_gives_it(made: Any, tiny_model: Any, embedder: str, tmp_path: Path) -> None:
    teacher, batch = made(tiny_model, embedder, tmp_path), COLLATE(ROWS)
    given = teacher(batch, set(teacher.gives))
    assert not isinstance(teacher, nn.Module)
    assert re.fullmatch(r"[0-9a-f]{64}", teacher.fingerprint)
    assert set(teacher.gives) in ({"logits", "hidden", "attention", "qkv"}, {"pooled"})
    assert given.mask.shape == batch["input_ids"].shape
    if "pooled" in teacher.gives:
        assert (teacher.depth, teacher.heads) == (0, 0)
        assert given.pooled.shape == (2, teacher.gives["pooled"]) == (2, teacher.width)
        return
    assert given.logits.shape == (2, teacher.gives["logits"])
    assert len(given.hidden) == teacher.depth + 1
    assert {layer.shape for layer in given.hidden} == {(2, 5, teacher.width)} == {(2, 5, teacher.gives["hidden"])}
    assert len(given.attention) == teacher.depth
    assert {layer.shape[1] for layer in given.attention} == {teacher.heads} == {teacher.gives["attention"]}


def test_what_is_stored_has_the_fingerprint_of_the_teacher_that_ran(tiny_model: Any, embedder: str, tmp_path: Path):
    assert stored(tiny_model, "", tmp_path).fingerprint == frozen(tiny_model, "", tmp_path).fingerprint
    live = frozen_embedder(None, embedder, tmp_path)
    of = stored_embedder(None, embedder, tmp_path)
    assert of.fingerprint == live.fingerprint
    assert SideBySide([of, of]).fingerprint == f"{live.fingerprint}+{live.fingerprint}"


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "distilbert", "modernbert"])
def test_a_classifier_gives_logits_and_the_encoder_in_it_none(tiny_model: Any, family: str) -> None:
    model = tiny_model(family, classes=5)
    assert FrozenEncoder(model).gives["logits"] == 5
    assert FrozenEncoder(model).transformer is model.base_model
    assert "logits" not in FrozenEncoder(model.base_model).gives
    assert FrozenEncoder(model.base_model).transformer is model.base_model


@pytest.mark.parametrize("made", [frozen, frozen_embedder])
def test_a_copy_in_bfloat16_answers_alike_and_leaves_the_teacher_as_it_was(
    made: Any, tiny_model: Any, embedder: str, tmp_path: Path
) -> None:
    teacher, batch = made(tiny_model, embedder, tmp_path), COLLATE(ROWS)
    low = teacher.in_bfloat16()
    assert {p.dtype for p in low.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in teacher.model.parameters()} == {torch.float32}
    output = "pooled" if "pooled" in teacher.gives else "logits"
    ours, theirs = (getattr(each(batch, {output}), output).float() for each in (low, teacher))
    assert torch.nn.functional.cosine_similarity(ours, theirs).min() > 0.99
    assert not torch.equal(ours, theirs)


def test_an_embedder_is_no_classifier(embedder: str) -> None:
    with pytest.raises(UserError, match="expected a classifier for logits"):
        frozen_embedder(None, embedder, Path()).logits([], lambda *_: np.zeros(0))


# ---- fields


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_field_is_read_by_the_name_that_it_is_given(tiny_model: Any, granularity: str) -> None:
    teacher = FrozenEncoder(tiny_model(layers=12))
    wanted = Wanted(logits=True, layers=(0, 3, 12), granularity=granularity)
    fields = fields_of(wanted, teacher)
    assert [field.name for field in fields] == ["logits", *(f"layer-{j}-{granularity}" for j in (0, 3, 12))]
    assert [field.width for field in fields] == [3, 16, 16, 16]
    assert outputs_named([field.name for field in fields], teacher) == wanted


def test_fields_have_these_names_and_so_many_rows() -> None:
    lengths = np.array([1, 2, 5])
    for field, name, rows in (
        (Field("logits", 0, "text", 3), "logits", [1, 1, 1]),
        (Field("vector", 0, "text", 8), "vector", [1, 1, 1]),
        (Field("layer", 10, "tokens", 8), "layer-10-tokens", [1, 2, 5]),
        (Field("layer", 0, "cls", 8), "layer-0-cls", [1, 1, 1]),
        (Field("layer", 2, "mean", 8), "layer-2-mean", [1, 1, 1]),
        (Field("attention", 2, "pairs", 4), "attention-2", [1, 4, 25]),
    ):
        assert (field.name, field.rows(lengths).tolist()) == (name, rows)


def test_of_a_teacher_that_does_not_give_it_nothing_is_stored(tiny_model: Any, embedder: str, tmp_path: Path) -> None:
    bare = FrozenEncoder(tiny_model().base_model)
    with pytest.raises(UserError, match="that gives logits and vector, got one of attention, hidden"):
        CachedTeacher(bare, Wanted(logits=True, pooled=True), tmp_path / "cache")
    with pytest.raises(UserError, match="expected a classifier for logits, got another model"):
        outputs_named(["logits"], bare)
    with pytest.raises(UserError, match="expected a layer from 0 to 0, got 'layer-0-mean'"):
        outputs_named(["layer-0-mean"], frozen_embedder(None, embedder, tmp_path))
    assert not (tmp_path / "cache").exists()
