"""A teacher's outputs in the student's tokens, and a teacher that is a table of answers."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from contrastill.data.both import TEACHER, CollateBoth, as_teacher_reads
from contrastill.data.collate import Collate, content_key
from contrastill.data.load import text_key
from contrastill.data.outputs import Outputs
from contrastill.encoder import Encoding
from contrastill.teachers import AlignedTeacher, TableTeacher
from contrastill.teachers.aligned import at_partners

NAN = math.nan


def collate(side: str = "right") -> Collate:
    return Collate(SimpleNamespace(pad_token_id=1, pad_token_type_id=0, padding_side=side))  # type: ignore[arg-type]


def row(ours: list[int], theirs: list[int], partners: list[int], n: int) -> dict[str, Any]:
    """Each of the student's tokens shows a character; the teacher's show as many as fit."""
    spans = [0, *np.cumsum([12 * len(ours) // len(theirs)] * (len(theirs) - 1)).tolist(), 12 * len(ours)]
    return {
        "input_ids": ours,
        "content": content_key(ours),
        "places": [place for at in range(len(ours)) for place in (12 * at, 12 * at + 12)],
        "partners": partners,
        "answered": [int(one >= 0) for one in partners],
        "labels": [0] * len(ours),
        "text_key": n,
        "index": n,
        TEACHER + "input_ids": theirs,
        TEACHER + "content": content_key(theirs),
        TEACHER + "places": [place for pair in pairwise(spans) for place in pair],
    }


ROWS = [row([2, 3, 4, 5], [7, 8], [-1, 0, 1, -1], 0), row([2, 3], [7, 8, 9, 6], [3, -1], 1)]


class Echo:
    """A teacher whose every output is the token's id, and whose logits are it and its place."""

    answers, width, depth, heads = "tokens", 1, 1, 1
    gives = {"logits": 2, "hidden": 1, "attention": 1, "qkv": 1}
    fingerprint = "f"

    def __call__(self, batch: Any, needs: Any) -> Encoding:
        ids = batch["input_ids"].float()
        place = torch.arange(ids.shape[1]).expand(ids.shape)
        hidden = (None, ids.unsqueeze(2))
        return Encoding(batch["attention_mask"].bool(), torch.stack([ids, place.float()], 2), hidden)  # type: ignore[arg-type]


@pytest.mark.parametrize("ours", ["left", "right"])
@pytest.mark.parametrize("theirs", ["left", "right"])
def test_layers_and_answers_are_carried_whatever_side_is_padded(ours: str, theirs: str) -> None:
    batch = CollateBoth(collate(ours), collate(theirs))(ROWS)
    seen = AlignedTeacher(Echo())(batch, {"hidden", "logits"})  # type: ignore[arg-type]
    assert torch.equal(seen.mask, batch["attention_mask"].bool())
    assert seen.hidden[0] is None
    real = batch["attention_mask"].bool()
    assert seen.hidden[1][..., 0][real].tolist() == [7, 7, 8, 8, 7.5, 7.5]
    assert (seen.hidden[1][~real] == 0).all()
    assert seen.logits[..., 0][real].tolist() == [0, 7, 8, 0, 6, 0]
    assert (seen.logits[~real] == 0).all()


def test_it_gives_what_its_teacher_gives() -> None:
    made = AlignedTeacher(Echo())  # type: ignore[arg-type]
    assert (made.gives, made.fingerprint, made.answers) == (Echo.gives, "f", "tokens")


def test_without_places_layers_and_mask_are_the_teachers() -> None:
    rows = [{name: value for name, value in one.items() if not name.endswith("places")} for one in ROWS]
    seen = AlignedTeacher(Echo())(CollateBoth(collate(), collate())(rows), {"hidden"})  # type: ignore[arg-type]
    assert seen.mask.sum(1).tolist() == [2, 4]
    assert seen.hidden[1].shape == (2, 4, 1)


def test_the_teacher_finds_its_stored_outputs_by_its_own_tokens() -> None:
    batch, alone = CollateBoth(collate(), collate())(ROWS), collate()(list(map(as_teacher_reads, ROWS)))
    for name in ("input_ids", "attention_mask", "content"):
        assert torch.equal(batch[TEACHER + name], alone[name])
    assert not torch.equal(batch["content"], batch[TEACHER + "content"])


def test_partners_are_counted_from_the_first_real_token() -> None:
    logits, mask = torch.arange(8.0).reshape(1, 4, 2), torch.tensor([[0, 0, 1, 1]])
    got = at_partners(logits, torch.tensor([[1, -1, 0]]), mask)
    assert got.tolist() == [[[6, 7], [0, 0], [4, 5]]]


# ---- a table of answers


def table(values: list[list[float]], classes: int) -> TableTeacher:
    keys = np.array([text_key(str(n)) for n in range(len(values))], np.int64)
    order = np.argsort(keys)
    return TableTeacher(Outputs(keys[order], np.array(values, np.float32)[order], "probabilities"), classes)


def keys_of(*texts: str) -> np.ndarray:
    return np.array([text_key(text) for text in texts], np.int64)


def test_answers_are_found_by_text_and_missing_ones_are_nan() -> None:
    teacher = table([[0.0, -1.0], [2.0, 3.0]], 2)
    batch = {"text_key": torch.from_numpy(keys_of("1", "other", "0")), "attention_mask": torch.ones(3, 4)}
    seen = teacher(batch, {"logits"})
    assert torch.equal(seen.logits.nan_to_num(nan=-9.0), torch.tensor([[2.0, 3.0], [-9.0, -9.0], [0.0, -1.0]]))
    assert teacher.knows(keys_of("0", "other")).tolist() == [True, False]
    assert teacher.has(keys_of("0", "1"))
    assert not teacher.has(keys_of("0", "other"))


def test_scores_take_the_likeliest_named_class_and_share_the_rest() -> None:
    rows = [
        [math.log(0.5), NAN, math.log(0.2), math.log(0.3)],  # what is left is more than a named one
        [NAN, 0.0, NAN, -math.inf],
        [math.log(0.4), NAN, NAN, math.log(0.6)],  # and fits here
    ]
    got = np.exp(table(rows, 3).logits_of(keys_of("0", "1", "2")))
    assert got.argmax(1).tolist() == [0, 1, 0]
    assert got[0] == pytest.approx([0.5, 0.2 * 0.999, 0.2], abs=1e-5)
    assert got[1] == pytest.approx([0, 1, 0])
    assert got[2] == pytest.approx([0.4, 0.3, 0.3], abs=1e-5)
    assert np.isfinite(table(rows, 3).logits_of(keys_of("1"))).all()


def test_the_fingerprint_is_that_of_texts_and_answers() -> None:
    prints = {table(values, 2).fingerprint for values in ([[0.0, 1.0]], [[0.0, 2.0]], [[0.0, 1.0], [0.0, 1.0]])}
    assert len(prints) == 3
    assert table([[0.0, 1.0]], 2).fingerprint in prints
