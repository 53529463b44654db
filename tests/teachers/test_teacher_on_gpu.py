"""A teacher run on a GPU, batch after batch without waiting, against the live one on the processor."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contrastill.data.collate import Collate, content_key
from contrastill.encoder import Encoding, Wanted
from contrastill.errors import UserError
from contrastill.teachers import CachedTeacher, FrozenEncoder, fill, keys_of

pytestmark = pytest.mark.gpu
GPU = "cuda"
ROUNDING = {"float32": 1e-4, "bfloat16": 0.05}
POISON = 49


def texts(count: int, seed: int = 0) -> list[dict]:
    rng, rows = np.random.default_rng(seed), []
    for index in range(count):
        ids = [2, *rng.integers(4, POISON, rng.integers(2, 30)).tolist()]
        rows.append({"input_ids": ids, "labels": 0, "text_key": index, "index": index, "content": content_key(ids, ())})
    return rows


COLLATE = Collate(SimpleNamespace(pad_token_id=1, pad_token_type_id=0, padding_side="right"))


def filled(model, root, wanted, computed, rows) -> CachedTeacher:
    of = CachedTeacher(FrozenEncoder(copy.deepcopy(model)), wanted, root, stored="float32", computed=computed)
    assert of.fill([rows[:150], rows[150:]], COLLATE) == len(rows)
    return of


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setitem(fill.BUDGET, "cuda", 300)


@pytest.mark.parametrize("computed", ["float32", "bfloat16"])
@pytest.mark.parametrize("granularity", ["tokens", "cls", "mean"])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_what_is_stored_is_what_the_processor_computes(tiny_model, tmp_path, family, granularity, computed):
    model, rows = tiny_model(family, seed=1).eval(), texts(200)
    of = filled(model, tmp_path, Wanted(logits=True, layers=(0, 2), granularity=granularity), computed, rows)
    assert of.model.device.type == GPU
    exact = CachedTeacher(FrozenEncoder(model), of.wanted, tmp_path / "exact", stored="float32", computed="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        exact.fill([rows], COLLATE)
    batch = COLLATE(rows[:64])
    found, expected = of({name: value.to(GPU) for name, value in batch.items()}), exact(batch)
    assert found.logits.device.type == found.hidden[0].device.type == GPU
    found = Encoding(found.mask.cpu(), found.logits.cpu(), tuple(h if h is None else h.cpu() for h in found.hidden))
    assert F.cosine_similarity(found.logits, expected.logits).min() > 1 - ROUNDING[computed]
    for j in of.wanted.layers:
        ours, theirs = found.hidden[j][found.mask].float(), expected.hidden[j][found.mask]
        assert F.cosine_similarity(ours, theirs).min() > 1 - ROUNDING[computed]
        assert theirs.abs().max() > 0.01
    if computed == "float32":
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-3, atol=1e-4)


def test_attention_is_stored_without_padding_as_the_live_teacher_computes_it_there(tiny_model, tmp_path):
    model, rows = tiny_model(seed=1).eval(), texts(200)
    of = filled(model, tmp_path, Wanted(attention=(1, 2)), "float32", rows)
    batch = {name: value.to(GPU) for name, value in COLLATE(rows[:40]).items()}
    found, live = of(batch), FrozenEncoder(model)(batch, {"attention"})
    real = batch["attention_mask"].bool()
    both = (real.unsqueeze(1) & real.unsqueeze(2)).unsqueeze(1).expand(-1, of.heads, -1, -1)
    for j in (0, 1):
        assert found.attention[j].device.type == GPU
        torch.testing.assert_close(found.attention[j][both], live.attention[j][both], rtol=1e-3, atol=1e-4)


def test_outputs_that_are_not_finite_are_refused_by_text_and_what_came_before_is_kept(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(200)
    rows.append({**rows[0], "input_ids": [5, POISON], "content": content_key([5, POISON], ())})  # the last batch's
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = float("nan")
    wanted = Wanted(logits=True, layers=(2,))
    of = CachedTeacher(FrozenEncoder(model), wanted, tmp_path, computed="bfloat16")
    with pytest.raises(UserError, match=r"of the poisoned one are not finite"):
        of.fill([rows], COLLATE, say=lambda r: "the poisoned one" if POISON in r["input_ids"] else "another")
    left = CachedTeacher(FrozenEncoder(model), wanted, tmp_path, computed="bfloat16").missing(keys_of(rows))
    assert 200 in left
    assert len(left) < 100
