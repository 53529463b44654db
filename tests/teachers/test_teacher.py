"""A teacher answered for from disk, against the live one."""

import copy
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from contrastill import losses
from contrastill.data.collate import Collate, content_key
from contrastill.encoder import Encoder, Wanted, pool_layer
from contrastill.errors import UserError
from contrastill.evaluation import predict
from contrastill.teachers import CachedTeacher, FrozenEncoder, fill, fingerprint, keys_of
from contrastill.teachers.fields import Field
from contrastill.teachers.fill import budgeted
from contrastill.teachers.store import Facts

DEPTH = 2  # of `tiny_model`
EVERYTHING = Wanted(logits=True, layers=(0, 1, DEPTH), attention=(1, DEPTH))
FAMILIES = ("bert", "roberta", "mpnet")
POISON = 49  # a token that no text holds unless a test puts it there


@pytest.fixture(autouse=True)
def in_float32(monkeypatch) -> Iterator[None]:
    """The teacher runs as it would live, on any machine; small batches, so that texts meet others than when asked."""
    monkeypatch.setattr("contrastill.teachers.stored.bf16_pays", lambda: False)
    monkeypatch.setitem(fill.BUDGET, "cpu", 40)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def row(ids, types=None, index: int = 0) -> dict:
    kinds = {} if types is None else {"token_type_ids": types}
    content = content_key(ids, () if types is None else types)
    return {"input_ids": ids, **kinds, "labels": 0, "text_key": index, "index": index, "content": content}


def texts(count: int, *, types: bool = False, seed: int = 0, longest: int = 12) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        ids = [2, *rng.integers(4, POISON, rng.integers(2, longest)).tolist()]
        rows.append(row(ids, [int(n > len(ids) // 2) for n in range(len(ids))] if types else None, index))
    return rows


def collator(side: str = "right") -> Collate:
    return Collate(SimpleNamespace(pad_token_id=1, pad_token_type_id=0, padding_side=side))


def cached(model, root: Path, wanted: Wanted = EVERYTHING, stored: str = "float32") -> CachedTeacher:
    return CachedTeacher(FrozenEncoder(model), wanted, root, stored=stored)


def forwards_of(model) -> list[int]:
    """Fills with the number of texts of each forward pass of the model."""
    seen: list[int] = []
    model.base_model.register_forward_pre_hook(
        lambda _module, args, kwargs: seen.append(len(args[0] if args else kwargs["input_ids"])), with_kwargs=True
    )
    return seen


def stored_values(of: CachedTeacher, rows: list[dict]) -> dict[tuple[str, bytes], bytes]:
    """(field, text) -> its bytes, of what is stored of these texts."""
    of.refresh()
    found = {}
    for field, store in of.stores.items():
        for n, at in enumerate(store.find(keys_of(rows))):
            if at >= 0:
                found[field, rows[n]["content"]] = store.read(int(at)).tobytes()
    return found


def compared(model, of: CachedTeacher, batch: dict[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(what, cached, live) of everything wanted, real tokens only, seen as methods see it."""
    needs = {"logits", "hidden", "attention"}
    got, live, real = of(batch, needs), FrozenEncoder(model)(batch, needs), batch["attention_mask"].bool()
    if of.wanted.logits:
        yield "logits", got.logits, live.logits
    for j in of.wanted.layers:
        values, mask = pool_layer(got.hidden[j], got.mask, of.wanted.granularity)
        expected, there = pool_layer(live.hidden[j], live.mask, of.wanted.granularity)
        assert torch.equal(mask, there)
        yield f"layer {j}", values[mask], expected[there]
    for j in of.wanted.attention:
        both = (real.unsqueeze(1) & real.unsqueeze(2)).unsqueeze(1).expand(-1, of.heads, -1, -1)
        assert got.attention[j - 1].shape == live.attention[j - 1].shape
        yield f"attention {j}", got.attention[j - 1][both], live.attention[j - 1][both]


# ---- batches by length


@pytest.mark.parametrize("seed", range(10))
def test_budgeted_batches_hold_every_position_once_within_budget_and_longest_first(seed):
    rng = np.random.default_rng(seed)
    lengths, budget = rng.integers(1, 60, rng.integers(1, 200)).tolist(), int(rng.integers(20, 300))
    batches = list(budgeted(lengths, budget))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for picked in batches:
        assert len(picked) == 1 or len(picked) * max(lengths[n] for n in picked) <= budget
    order = [lengths[n] for picked in batches for n in picked]
    assert order == sorted(lengths, reverse=True)
    # and no batch could have taken the next one's first text too
    for picked in batches[:-1]:
        assert (len(picked) + 1) * lengths[picked[0]] > budget


def test_texts_of_a_length_stay_in_their_order_and_nothing_gives_no_batch():
    assert [picked.tolist() for picked in budgeted([5, 5, 5, 5], 10)] == [[0, 1], [2, 3]]
    assert [picked.tolist() for picked in budgeted([99, 3], 10)] == [[0], [1]]
    assert list(budgeted([], 10)) == []
    assert [picked.tolist() for picked in budgeted([0, 0], 10)] == [[0, 1]]


# ---- what is answered


@pytest.mark.parametrize("granularity", ["tokens", "cls", "mean"])
@pytest.mark.parametrize("types", [False, True], ids=["no types", "types"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stored_outputs_are_those_of_the_live_teacher(tiny_model, tmp_path, family, types, granularity):
    model, rows = tiny_model(family, seed=1).eval(), texts(30, types=types)
    wanted = Wanted(logits=True, layers=(0, 1, DEPTH), granularity=granularity, attention=(1, DEPTH))
    of = cached(model, tmp_path, wanted)
    assert of.fill([rows], collator()) == 30
    for picked in (rows[:9], rows[9:10], rows[10:][::-1]):
        for what, got, live in compared(model, of, collator()(picked)):
            torch.testing.assert_close(got, live, rtol=1e-5, atol=1e-5, msg=lambda text, w=what: f"{w}: {text}")
            assert got.abs().max() > 0.01


@pytest.mark.parametrize("stored", ["float16", "int8"])
def test_scores_of_a_local_layer_are_stored_as_masked_and_compared_as_the_live_ones(tiny_model, tmp_path, stored):
    model, rows = tiny_model("modernbert", seed=1).eval(), texts(20)
    of = cached(model, tmp_path, Wanted(attention=(1, DEPTH)), stored)
    of.fill([rows], collator())
    batch = collator()(rows)
    student = Encoder(tiny_model("modernbert", seed=2).eval())(batch, {"attention"})
    got, live = of(batch), FrozenEncoder(model)(batch, {"attention"})
    assert (live.attention[DEPTH - 1] < -1e30).any()
    for j in of.wanted.attention:
        ours, theirs = (
            losses.attention_mse(student.attention[j - 1], found.attention[j - 1], live.mask) for found in (got, live)
        )
        assert 0.01 < theirs < 1e3
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0)


@pytest.mark.parametrize("granularity", ["tokens", "cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_padded_on_the_left_are_answered_at_their_own_tokens(
    tiny_model, tmp_path, monkeypatch, family, granularity
):
    # One batch of all: with absolute positions a live teacher's outputs depend on how many padding tokens come first.
    # Without logits: heads read position 0, which is a padding token.
    monkeypatch.setitem(fill.BUDGET, "cpu", 10_000)
    model, rows = tiny_model(family, seed=1).eval(), texts(20)
    of = cached(model, tmp_path, Wanted(layers=(0, 1, DEPTH), granularity=granularity, attention=(1, DEPTH)))
    of.fill([rows], collator("left"))
    batch = collator("left")(rows)
    assert not batch["attention_mask"][:, 0].all()
    got, live = of(batch), FrozenEncoder(model)(batch, {"hidden", "attention"})
    for j in of.wanted.layers:
        for n, ids in enumerate(row["input_ids"] for row in rows):
            own = live.hidden[j][n, -len(ids) :]
            expected = {"tokens": own, "cls": own[:1], "mean": own.mean(0, keepdim=True)}[granularity]
            found = got.hidden[j][n][got.mask[n]]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for j in of.wanted.attention:
        for n, ids in enumerate(row["input_ids"] for row in rows):
            own = slice(-len(ids), None)
            torch.testing.assert_close(
                got.attention[j - 1][n][:, own, own], live.attention[j - 1][n][:, own, own], rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_of_the_very_batch_that_was_stored_not_a_bit_differs(tiny_model, tmp_path, monkeypatch, family):
    monkeypatch.setitem(fill.BUDGET, "cpu", 10_000)
    rows = sorted(texts(20, types=True), key=lambda r: -len(r["input_ids"]))  # as `budgeted` would order them
    model = tiny_model(family, seed=1).eval()
    of = cached(model, tmp_path)
    of.fill([rows], collator())
    for what, got, live in compared(model, of, collator()(rows)):
        assert torch.equal(got, live), what


@pytest.mark.parametrize(("stored", "rounding"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_stored_in_sixteen_bits_outputs_are_the_live_ones_within_rounding(tiny_model, tmp_path, stored, rounding):
    model, rows = tiny_model(seed=1).eval(), texts(30)
    of = cached(model, tmp_path, stored=stored)
    of.fill([rows], collator())
    for _, got, live in compared(model, of, collator()(rows)):
        torch.testing.assert_close(got.float(), live, rtol=rounding * 1.01, atol=2e-5)
        assert not torch.equal(got.float(), live)  # else the type is not what was asked for


def test_stored_in_int8_layers_are_within_half_a_step_and_logits_in_float16(tiny_model, tmp_path):
    model, rows = tiny_model(seed=1).eval(), texts(30)
    of = cached(model, tmp_path, stored="int8")
    of.fill([rows], collator())
    for what, got, live in compared(model, of, collator()(rows)):
        if what == "logits":
            torch.testing.assert_close(got, live, rtol=2**-11 * 1.01, atol=2e-5)
        elif what.startswith("layer"):
            half = live.abs().amax(1, keepdim=True) / 127 / 2
            assert ((got - live).abs() <= half * 1.01 + 2e-5).all()


def test_what_is_padding_is_zero_and_what_is_not_wanted_is_none(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(12)
    of = cached(model, tmp_path, Wanted(layers=(DEPTH,)))
    of.fill([rows], collator())
    batch = collator()(rows)
    got = of(batch, {"hidden"})
    assert torch.equal(got.mask, batch["attention_mask"].bool())
    assert not got.mask.all()
    assert (got.hidden[DEPTH][~got.mask] == 0).all()
    assert len(got.hidden) == DEPTH + 1
    assert [got.logits, got.attention, *got.hidden[:DEPTH]] == [None] * (2 + DEPTH)


def test_a_text_that_was_not_filled_is_an_error_that_names_the_way_out(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(6)
    of = cached(model, tmp_path)
    of.fill([rows[:5]], collator())
    assert of(collator()(rows[:5])).logits.shape == (5, 3)
    with pytest.raises(UserError, match="--cache none"):
        of(collator()(rows))


# ---- what is computed


def test_a_second_fill_runs_no_teacher(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(30)
    seen = forwards_of(model)
    assert cached(model, tmp_path).fill([rows], collator()) == 30
    assert sum(seen) == 30
    assert len(seen) > 3  # batches: what follows is not about one
    seen.clear()
    of = cached(model, tmp_path)
    assert of.fill([rows[:20], rows[20:]], collator()) == 0
    assert (seen, of.forwards) == ([], 0)
    of(collator()(rows))
    assert seen == []


def test_of_twice_the_data_only_the_new_half_is_run(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(40)
    cached(model, tmp_path).fill([rows[::2]], collator())
    before = stored_values(cached(model, tmp_path), rows)
    seen = forwards_of(model)
    of = cached(model, tmp_path)
    assert of.fill([rows], collator()) == 20
    assert sum(seen) == 20
    after = stored_values(of, rows)
    assert len(after) == 2 * len(before) == 40 * len(of.stores)
    assert {key: after[key] for key in before} == before


def test_another_field_runs_the_teacher_anew_but_stores_only_what_is_missing(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(12)
    cached(model, tmp_path, Wanted(logits=True)).fill([rows], collator())
    of = cached(model, tmp_path, Wanted(logits=True, layers=(1,)))
    assert of.fill([rows], collator()) == 12
    assert {field.name: len(store) for field, store in of.stores.items()} == {"logits": 12, "layer-1-tokens": 12}


def test_a_fill_of_what_is_stored_does_not_wait_for_the_teacher_s_other_fields(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(12)
    cached(model, tmp_path).fill([rows], collator())
    assert cached(model, tmp_path, Wanted(layers=(1,))).fill([rows], collator()) == 0


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_duplicates_are_run_and_stored_once(tiny_model, tmp_path, chunks):
    model, rows = tiny_model().eval(), texts(10)
    seen = forwards_of(model)
    many = rows * 6  # also in other chunks, and all before anything is written
    size = len(many) // chunks
    of = cached(model, tmp_path)
    assert of.fill((many[n : n + size] for n in range(0, len(many), size)), collator()) == 10
    assert sum(seen) == 10
    assert {len(store) for store in of.stores.values()} == {10}
    assert of(collator()(many)).logits.shape == (60, 3)


def test_an_empty_fill_does_nothing(tiny_model, tmp_path):
    model = tiny_model().eval()
    seen = forwards_of(model)
    assert cached(model, tmp_path).fill([], collator()) == 0
    assert seen == []


def test_bytes_foretold_are_bytes_stored(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(40)
    for stored in ("float32", "float16", "int8"):
        of = cached(model, tmp_path, stored=stored)
        need, free = of.space_needed([len(r["input_ids"]) for r in rows])
        of.fill([rows], collator())
        size = sum(store.size for store in of.stores.values())
        assert need <= size <= need + len(of.stores) * (40 * 20 + 400)  # keys and counts, and a header
        assert free > need


# ---- what may not be taken for something else


def test_a_changed_text_is_never_answered_with_the_old_one_s_values(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(10, types=True)
    of = cached(model, tmp_path)
    of.fill([rows], collator())
    changed = [dict(r) for r in rows]
    ids, types = rows[3]["input_ids"], rows[3]["token_type_ids"]
    changed[3] = row([*ids[:-1], ids[-1] % 40 + 5], types)
    changed[5] = row(rows[5]["input_ids"], [1 - kind for kind in rows[5]["token_type_ids"]])
    changed[7] = row(rows[7]["input_ids"][:-1], rows[7]["token_type_ids"][:-1])
    assert of.missing(keys_of(changed)).tolist() == [3, 5, 7]
    for n in (3, 5, 7):
        with pytest.raises(UserError):
            of(collator()(changed[n : n + 1]))
    assert of.fill([changed], collator()) == 3
    for _, got, live in compared(model, of, collator()(changed)):
        torch.testing.assert_close(got, live, rtol=1e-5, atol=1e-5)


def test_texts_cut_at_another_length_are_other_texts_and_whole_ones_the_same(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(20)
    of = cached(model, tmp_path)
    of.fill([rows], collator())
    cut = [row(r["input_ids"][:6]) for r in rows]
    longer = [n for n, r in enumerate(rows) if len(r["input_ids"]) > 6]
    assert 0 < len(longer) < len(rows)
    assert sorted(of.missing(keys_of(cut)).tolist()) == longer
    assert of.fill([cut], collator()) == len(longer)
    for _, got, live in compared(model, of, collator()(cut)):
        torch.testing.assert_close(got, live, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["word", "layer", "head", "config"])
def test_other_weights_or_another_config_are_another_teacher(tiny_model, tmp_path, name):
    model, rows = tiny_model().eval(), texts(10)
    cached(model, tmp_path).fill([rows], collator())
    other = copy.deepcopy(model)
    with torch.no_grad():
        if name == "config":  # same weights, other outputs
            other.config.layer_norm_eps = 0.1
        else:
            weights = {
                "word": other.bert.embeddings.word_embeddings.weight,
                "layer": other.bert.encoder.layer[1].output.dense.bias,
                "head": other.classifier.bias,
            }[name]
            weights.view(-1)[-1] = torch.nextafter(weights.view(-1)[-1], torch.tensor(9.0))
    of = cached(other, tmp_path)
    assert of.missing(keys_of(rows)).tolist() == list(range(10))
    with pytest.raises(UserError):
        of(collator()(rows))
    assert cached(model, tmp_path).missing(keys_of(rows)).tolist() == []


def test_where_a_teacher_lies_and_how_it_attends_do_not_make_it_another(tiny_model, tmp_path):
    model = tiny_model().eval()
    model.save_pretrained(tmp_path / "here")
    model.save_pretrained(tmp_path / "there")
    before = fingerprint(type(model).from_pretrained(tmp_path / "here"))
    again = type(model).from_pretrained(tmp_path / "there")
    assert fingerprint(again) == before
    FrozenEncoder(again)(collator()(texts(2)), {"attention"})  # to the eager path
    assert again.config._attn_implementation == "eager"
    assert fingerprint(again) == before


def test_a_single_number_among_the_weights_counts_too(tiny_model):
    model = tiny_model()
    model.register_parameter("scale", torch.nn.Parameter(torch.tensor(1.0)))
    before = fingerprint(model)
    with torch.no_grad():
        model.scale.fill_(2.0)
    assert fingerprint(model) != before


# ---- what goes wrong on the way


def test_outputs_that_are_not_finite_are_refused_by_text_and_nothing_of_their_batch_is_stored(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(30)
    rows.sort(key=lambda r: -len(r["input_ids"]))
    rows[17] = row([*rows[17]["input_ids"][:-1], POISON])
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = float("nan")
    batches = [set(picked.tolist()) for picked in budgeted([len(r["input_ids"]) for r in rows], 40)]
    at = next(n for n, picked in enumerate(batches) if 17 in picked)
    assert 0 < at < len(batches) - 1
    assert len(batches[at]) > 1
    of = cached(model, tmp_path)
    with pytest.raises(UserError, match=r"words ending in 49.*not finite.*weights"):
        of.fill([rows], collator(), say=lambda r: f"words ending in {r['input_ids'][-1]}")
    left = cached(model, tmp_path).missing(keys_of(rows))
    assert set(left.tolist()) == set.union(*batches[at:])


def test_with_a_batch_running_ahead_the_same_is_stored_and_refused(tiny_model, tmp_path, monkeypatch):
    model, rows = tiny_model().eval(), texts(60)
    chunks = [rows[:40], [*rows[40:], *rows[:40:3]]]
    one = cached(model, tmp_path / "one")
    one.fill(chunks, collator())
    monkeypatch.setattr(fill, "accelerated", lambda: True)
    two = cached(model, tmp_path / "two")
    assert two.fill(chunks, collator()) == 60
    assert stored_values(two, rows) == stored_values(one, rows)
    broken = row([5, 6, POISON])
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = float("nan")
    of = cached(model, tmp_path / "three")
    with pytest.raises(UserError, match=r"of words ending in 49 are not finite"):
        of.fill([[*rows[:40], broken]], collator(), say=lambda r: f"words ending in {r['input_ids'][-1]}")
    assert 0 in of.missing(keys_of([broken]))


class Stop(Exception):
    pass


def stopping(after: int):
    """Collates so many times."""
    left = iter(range(after))

    def collate(rows):
        if next(left, None) is None:
            raise Stop
        return collator()(rows)

    return collate


@pytest.mark.parametrize("after", [2, 4, 7, 13])
@pytest.mark.parametrize("repeats", [False, True], ids=["all different", "repeats across chunks"])
def test_after_an_interruption_values_are_bitwise_those_of_an_uninterrupted_fill(tiny_model, tmp_path, after, repeats):
    model, rows = tiny_model().eval(), texts(60)
    chunks = [rows[:40], [*rows[40:], *(rows[:40:3] if repeats else [])]]
    whole = cached(model, tmp_path / "whole")
    whole.fill(chunks, collator())
    expected = stored_values(whole, rows)
    assert 8 < len(list(budgeted([len(r["input_ids"]) for r in chunks[0]], 40))) < 12  # 13 is in the second chunk
    with pytest.raises(Stop):
        cached(model, tmp_path / "stopped").fill(chunks, stopping(after))
    kept = stored_values(cached(model, tmp_path / "stopped"), rows)
    assert 0 < len(kept) < len(expected)
    seen = forwards_of(model)
    again = cached(model, tmp_path / "stopped")
    again.fill(chunks, collator())
    assert {key for key, value in stored_values(again, rows).items() if value != expected[key]} == set()
    assert sum(seen) == 60 - len(kept) / len(again.stores)


def test_an_interruption_while_outputs_are_gathered_keeps_the_batches_before(tiny_model, tmp_path, monkeypatch):
    model, rows = tiny_model().eval(), texts(30)
    asked, before = iter(range(13)), Facts.bytes_per_row.fget

    def interrupted(self):  # Ctrl-C may come between any two lines
        if next(asked, None) is None:
            raise KeyboardInterrupt
        return before(self)

    monkeypatch.setattr(Facts, "bytes_per_row", property(interrupted))
    with pytest.raises(KeyboardInterrupt):
        cached(model, tmp_path, Wanted(layers=(0, 1, 2))).fill([rows], collator())
    monkeypatch.undo()
    monkeypatch.setattr("contrastill.teachers.stored.bf16_pays", lambda: False)
    of = cached(model, tmp_path, Wanted(layers=(0, 1, 2)))
    left = of.missing(keys_of(rows))
    assert 0 < len(left) < 30
    rest = [r for n, r in enumerate(rows) if n not in left]
    for _, got, live in compared(model, of, collator()(rest)):
        torch.testing.assert_close(got, live, rtol=1e-5, atol=1e-5)


def test_what_another_process_stored_meanwhile_is_not_stored_again(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(30)
    one = cached(model, tmp_path / "one")
    one.fill([rows], collator())
    of, calls = cached(model, tmp_path / "two"), itertools.count()

    def collate(some):
        if next(calls) == 3:  # the texts of earlier batches, and of later ones, every other one
            cached(model, tmp_path / "two").fill([rows[::2]], collator())
            of.refresh()
        return collator()(some)

    of.fill([rows], collate)
    assert {len(store) for store in of.stores.values()} == {30}
    ours, theirs = stored_values(of, rows), stored_values(one, rows)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():  # other batches, and so another rounding
        np.testing.assert_allclose(*(np.frombuffer(v, np.float32) for v in (value, theirs[key])), rtol=1e-4, atol=1e-5)


def test_many_small_shards_hold_what_one_large_one_does(tiny_model, tmp_path, monkeypatch):
    model, rows = tiny_model().eval(), texts(40)
    one = cached(model, tmp_path / "one")
    one.fill([rows], collator())
    monkeypatch.setattr(fill, "SHARD", 1000)
    many = cached(model, tmp_path / "many")
    many.fill([rows], collator())
    assert [len(store.shards) for store in one.stores.values()] == [1] * len(one.stores)
    assert all(len(store.shards) > 3 for store in many.stores.values())
    assert stored_values(many, rows) == stored_values(one, rows)


def test_a_damaged_shard_costs_its_own_texts_only(tiny_model, tmp_path, monkeypatch):
    model, rows = tiny_model().eval(), texts(40)
    monkeypatch.setattr(fill, "SHARD", 1000)
    of = cached(model, tmp_path)
    of.fill([rows], collator())
    shard = of.stores[Field("layer", 1, "tokens", of.width)].shards[1]
    content = bytearray(shard.path.read_bytes())
    content[-1] ^= 1
    shard.path.write_bytes(content)
    seen = forwards_of(model)
    again = cached(model, tmp_path)
    assert again.fill([rows], collator()) == sum(seen) == len(shard.keys)
    for _, got, live in compared(model, again, collator()(rows)):
        torch.testing.assert_close(got, live, rtol=1e-5, atol=1e-5)


# ---- several processes


def share_of(of, number, rows, monkeypatch):
    """What the process of that number, one of two, runs the teacher on."""
    world = SimpleNamespace(process_index=number, num_processes=2, wait_for_everyone=lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr("contrastill.teachers.filled.processes", lambda: world)
        return of.fill([rows], collator())


def test_two_shares_together_are_the_whole(tiny_model, tmp_path, monkeypatch):
    model, rows = tiny_model().eval(), texts(50)
    alone = cached(model, tmp_path / "alone")
    alone.fill([rows], collator())
    seen = forwards_of(model)
    both = [cached(model, tmp_path / "both") for _ in range(2)]
    done = [share_of(of, n, rows, monkeypatch) for n, of in enumerate(both)]
    assert sum(done) == sum(seen) == 50
    assert min(done) > 10
    for of in both:
        of.refresh()
        assert stored_values(of, rows).keys() == stored_values(alone, rows).keys()
        for _, got, live in compared(model, of, collator()(rows)):
            torch.testing.assert_close(got, live, rtol=1e-5, atol=1e-5)


def test_two_shares_are_the_whole_also_if_one_process_begins_when_the_other_has_finished(
    tiny_model, tmp_path, monkeypatch
):
    model, rows = tiny_model().eval(), texts(50)
    for n in range(2):  # each looks at what is there when its turn comes
        share_of(cached(model, tmp_path), n, rows, monkeypatch)
    assert cached(model, tmp_path).missing(keys_of(rows)).tolist() == []


def test_two_processes_that_fill_the_same_texts_do_no_harm(tiny_model, tmp_path):
    rows, errors = texts(60), []
    models = [tiny_model().eval() for _ in range(2)]
    start = threading.Barrier(2)

    def run(model, order):
        try:
            of = cached(model, tmp_path)
            start.wait()
            of.fill([order[:30], order[30:]], collator())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(m, o)) for m, o in zip(models, (rows, rows[::-1]), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    of = cached(models[0], tmp_path)
    assert of.fill([rows], collator()) == 0
    assert not list(tmp_path.rglob("*.part"))
    for _, got, live in compared(models[0], of, collator()(rows)):
        torch.testing.assert_close(got, live, rtol=1e-5, atol=1e-5)


# ---- logits in full precision


def batches_of(rows: list[dict]) -> list[dict[str, Tensor]]:
    return [collator()(rows[n : n + 8]) for n in range(0, len(rows), 8)]


def test_logits_for_scores_are_computed_once_in_float32_whatever_is_stored(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(30)
    expected = predict(model, batches_of(rows))
    seen = forwards_of(model)
    for forwards in (30, 0, 0):
        of = cached(model, tmp_path, Wanted(logits=True), stored="int8")
        got = of.logits(batches_of(rows), predict)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)  # in the order asked for
        assert (of.forwards, sum(seen)) == (forwards, forwards)
        seen.clear()
    np.testing.assert_array_equal(of.logits(batches_of(rows[::-1]), predict), expected[::-1])
    assert seen == []


def test_of_more_texts_only_the_new_batches_logits_are_computed(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(32)
    of = cached(model, tmp_path)
    of.logits(batches_of(rows[:16]), predict)
    seen = forwards_of(model)
    got = of.logits(batches_of(rows), predict)
    assert sum(seen) == 16
    np.testing.assert_allclose(got, predict(model, batches_of(rows)), rtol=1e-6)


def test_logits_for_scores_are_not_those_of_the_training_cache(tiny_model, tmp_path):
    model, rows = tiny_model().eval(), texts(16)
    of = cached(model, tmp_path, Wanted(logits=True), stored="float16")
    of.fill([rows], collator())
    rounded = of(collator()(rows)).logits.numpy()
    exact = of.logits(batches_of(rows), predict)
    np.testing.assert_array_equal(exact, predict(model, batches_of(rows)))
    assert not np.array_equal(exact, rounded)


def test_an_unknown_type_to_store_is_refused(tiny_model, tmp_path):
    with pytest.raises(UserError, match="float32, float16, bfloat16, int8, got 'float8'"):
        cached(tiny_model(), tmp_path, stored="float8")
