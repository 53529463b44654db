"""A language model answered for from disk, beside the live one."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_language import gpt2, llama

from contrastill.data.prompt_batches import collate_prompts
from contrastill.errors import UserError
from contrastill.language import answer_tokens
from contrastill.losses import SparseLogits, top_k
from contrastill.methods import METHODS
from contrastill.tasks import Language
from contrastill.teachers import CachedLM, FrozenLM, answer_keys, entries, fill, verify
from contrastill.teachers.likeliest import Likeliest

PAD = 12
TASK = Language(ends=(12,), pad=PAD, longest_prompt=12, new_tokens=9, seed=3)
ROUNDING = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


@pytest.fixture(autouse=True)
def in_small_batches(monkeypatch):
    monkeypatch.setitem(fill.BUDGET, "cpu", 40)
    monkeypatch.setattr("contrastill.teachers.tokens.processes", lambda: SimpleNamespace(device=torch.device("cpu")))


def rows_of(count, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, (count, 2))
    return [
        {"prompt": rng.integers(0, 12, p).tolist(), "answer": [*rng.integers(0, 12, a - 1).tolist(), 12], "key": n}
        for n, (p, a) in enumerate(lengths.tolist())
    ]


ROWS = rows_of(20)


def teacher(seed=2, vocabulary=13, make=llama):
    return FrozenLM(make(24, 2, seed, spread=0.5, vocabulary=vocabulary))


def cached(root, live=None, k=3, stored="float32", words=13):
    return CachedLM(live or teacher(), words, root, k=k, stored=stored, computed="float32", name="lm")


def filled(root, rows=ROWS, **options):
    made = cached(root, **options)
    made.fill_rows(rows, PAD)
    return made


def batch_of(rows):
    return collate_prompts(rows, PAD)


def everything(of, rows=ROWS):
    return of.tokens(batch_of(rows))(slice(None))


def distinct(rows):
    return len({(tuple(row["prompt"]), tuple(row["answer"])) for row in rows})


# ---- what comes back


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("stored", ROUNDING)
@pytest.mark.parametrize("k", [1, 4, 13])
def test_words_are_those_of_each_row_by_itself(make, stored, k, tmp_path):
    live = teacher(make=make)
    got, at = everything(filled(tmp_path, live=live, k=k, stored=stored)), 0
    for row in ROWS:
        ids = torch.tensor([row["prompt"] + row["answer"]])
        p = live.model(input_ids=ids).logits[0, len(row["prompt"]) - 1 : -1].softmax(-1).tolist()
        for chances, target in zip(p, row["answer"], strict=True):
            named = sorted(range(13), key=lambda i: -chances[i])[:k]
            named = named if target in named else [*named[:-1], target]
            assert got.ids[at].tolist() == named
            rel = ROUNDING[stored]
            assert got.log_probs[at].float().exp().tolist() == pytest.approx([chances[i] for i in named], rel=2 * rel)
            rest = sum(x for i, x in enumerate(chances) if i not in named)
            assert got.tail[at].float().exp().item() == pytest.approx(rest, rel=2 * rel)
            at += 1
    assert at == len(got.ids)


def test_a_part_of_a_batch_in_any_order_of_rows_has_its_own_words(tmp_path):
    of = filled(tmp_path, k=2)
    turned = ROWS[::-1]
    whole, part = everything(of, turned), of.tokens(batch_of(turned))
    for some in (slice(0, 1), slice(3, 4), slice(2, 9)):
        for name in ("ids", "log_probs", "tail"):
            assert getattr(part(some), name).equal(getattr(whole, name)[some])
    (one,) = (everything(of, [row]) for row in ROWS[7:8])
    first = sum(len(row["answer"]) for row in ROWS[:7])
    assert everything(of).ids[first : first + len(one.ids)].equal(one.ids)


@pytest.mark.parametrize(("words", "bits"), [(13, 16), (1 << 16, 16), ((1 << 16) + 1, 32), (200_000, 32)])
@pytest.mark.parametrize("stored", ROUNDING)
@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_bytes_are_packed_and_unpacked(words, bits, stored, tokens):
    field = Likeliest.of(3, words, stored)
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(np.array([[words - 1, *rng.choice(words - 1, 2, replace=False)] for _ in range(tokens)]))
    found = SparseLogits(ids.reshape(-1, 3), torch.randn(tokens, 3) - 4, torch.randn(tokens))
    packed = field.pack(found)
    assert packed.shape == (tokens, field.width)
    assert field.width == 3 * bits // 8 + 4 * torch.finfo(getattr(torch, stored)).bits // 8
    got = field.unpack(packed)
    assert got.ids.equal(found.ids)
    torch.testing.assert_close(got.log_probs.float(), found.log_probs, rtol=ROUNDING[stored] * 2, atol=0)
    torch.testing.assert_close(got.tail.float(), found.tail, rtol=ROUNDING[stored] * 2, atol=0)


def test_no_mass_stays_none_and_what_float16_cannot_hold_is_its_lowest_number():
    field = Likeliest.of(2, 13, "float16")
    found = SparseLogits(torch.tensor([[1, 2]]), torch.tensor([[0.0, -1e6]]), torch.tensor([-torch.inf]))
    got = field.unpack(field.pack(found))
    assert got.log_probs.tolist() == [[0.0, -65504.0]]
    assert got.tail.tolist() == [-torch.inf]


def test_an_unknown_type_is_refused(tmp_path):
    with pytest.raises(UserError, match="float16, bfloat16, float32"):
        cached(tmp_path, stored="int8")


# ---- methods


def learnt(name, given, rows=ROWS[:6], vocabulary=13, **settings):
    method = METHODS[name](llama(16, 1, 1, spread=0.5, vocabulary=vocabulary), given, TASK, **settings)
    method.stage = method.stages[-1]
    found = method(**batch_of(rows))
    found["loss"].backward()
    gradient = torch.cat([p.grad.flatten() for p in method.student.parameters()])
    return {name: float(value.detach()) for name, value in found.items()}, gradient


@pytest.mark.parametrize(("vocabulary", "theirs"), [(13, 13), (16, 13), (13, 16)])
@pytest.mark.parametrize(
    ("name", "settings"),
    [("gkd", {"beta": 0.3}), ("gkd", {"beta": 1.0}), ("atkd", {}), ("distillm", {"source": "given"})],
)
def test_all_words_are_the_live_teacher(name, settings, vocabulary, theirs, tmp_path):
    live = teacher(vocabulary=theirs)
    expected, wanted = learnt(name, live, vocabulary=vocabulary, **settings)
    for stored, rel in ROUNDING.items():
        of = filled(tmp_path, live=live, k=0, stored=stored, words=vocabulary)
        got, gradient = learnt(name, of, vocabulary=vocabulary, **settings)
        assert got == pytest.approx(expected, rel=2 * rel)
        torch.testing.assert_close(gradient, wanted, rtol=rel, atol=rel)


def test_a_lower_number_of_words_is_a_lower_bound_that_grows(tmp_path):
    values = [learnt("gkd", filled(tmp_path, k=k))[0]["jsd"] for k in (1, 2, 4, 8, 13)]
    assert values == sorted(values)
    assert values[0] < 0.9 * values[-1]
    assert values[-1] == pytest.approx(learnt("gkd", teacher())[0]["jsd"], rel=1e-5)


def test_the_share_outside_is_the_mean_mass_of_other_words(tmp_path):
    of, live = filled(tmp_path, k=2), teacher()
    batch = batch_of(ROWS)
    tail = top_k(live.tokens(batch)(slice(None)), 2, answer_tokens(batch)).tail
    assert of.outside(ROWS) == pytest.approx(float(tail.exp().mean()), rel=1e-4)
    assert filled(tmp_path, k=0).outside(ROWS) == 0


# ---- what may not be taken for something else


def test_a_row_that_was_not_filled_is_an_error_that_names_the_way_out(tmp_path):
    of = filled(tmp_path, rows=ROWS[:5])
    with pytest.raises(UserError, match=r"got 2 of 4 that the cache was not filled with.*--cache none"):
        of.tokens(batch_of(ROWS[3:7]))


def test_a_changed_row_is_another_one(tmp_path):
    row = {"prompt": [1, 2, 3], "answer": [4, 5, 12], "key": 0}
    of = filled(tmp_path, rows=[row])
    for changed in (
        {"answer": [4, 6, 12]},
        {"answer": [4, 5]},
        {"prompt": [1, 2, 7]},
        {"prompt": [1, 2], "answer": [3, 4, 5, 12]},
    ):
        with pytest.raises(UserError, match="not filled with"):
            of.tokens(batch_of([row | changed]))
    assert everything(of, [row | {"key": 9}]).ids.shape == (3, 3)


def test_a_second_fill_runs_no_teacher_and_another_teacher_number_or_type_does(tmp_path):
    live = teacher(vocabulary=16)
    assert filled(tmp_path, live=live).forwards == distinct(ROWS)
    assert filled(tmp_path, live=live).forwards == 0
    assert filled(tmp_path, live=live, rows=[*ROWS, *rows_of(3, seed=9)]).forwards == 3
    for other in ({"live": teacher(seed=5, vocabulary=16)}, {"k": 4}, {"stored": "float16"}, {"words": 14}):
        changed = filled(tmp_path, **{"live": live, **other})
        assert changed.forwards == distinct(ROWS)
    assert len(list(entries(tmp_path))) == 5


def test_more_words_than_there_are_is_all_of_them(tmp_path):
    assert cached(tmp_path, k=99).field == cached(tmp_path, k=0).field == cached(tmp_path, k=13).field


# ---- filling


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3])
def test_a_fill_that_was_killed_goes_on_to_the_same_bytes(after, tmp_path, monkeypatch):
    live = teacher()
    whole = everything(filled(tmp_path / "whole", live=live))
    of, seen = cached(tmp_path / "stopped", live=live), []
    named = CachedLM.named

    def stopping(self, batch):
        if len(seen) == after:
            raise Stop
        seen.append(len(batch["key"]))
        return named(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(CachedLM, "named", stopping)
        with pytest.raises(Stop):
            of.fill_rows(ROWS, PAD)
    again = cached(tmp_path / "stopped", live=live)
    assert len(again.missing(answer_keys(ROWS))) == distinct(ROWS) - sum(seen)
    assert again.fill_rows(ROWS, PAD) == distinct(ROWS) - sum(seen)
    for name in ("ids", "log_probs", "tail"):
        assert getattr(everything(again), name).equal(getattr(whole, name))


def test_two_at_once_do_no_harm(tmp_path):
    errors, start, live = [], threading.Barrier(2), teacher()

    def run(rows):
        try:
            of = cached(tmp_path, live=live)
            start.wait()
            of.fill_rows(rows, PAD)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rows,)) for rows in (ROWS, ROWS[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert filled(tmp_path, live=live).forwards == 0
    assert not list(tmp_path.rglob("*.part"))


def test_two_processes_share_the_rows(tmp_path, monkeypatch):
    done = []
    for number in range(2):
        world = SimpleNamespace(process_index=number, num_processes=2, wait_for_everyone=lambda: None)
        monkeypatch.setattr("contrastill.teachers.filled.processes", lambda world=world: world)
        done.append(filled(tmp_path).forwards)
    assert sum(done) == distinct(ROWS)
    assert min(done) > 3


def test_logits_that_are_not_finite_are_refused_by_row(tmp_path):
    live, rows = teacher(), [row for row in ROWS if 5 not in row["prompt"] + row["answer"]]
    with torch.no_grad():
        live.model.get_input_embeddings().weight[5] = torch.nan
    broken = {"prompt": [1, 5], "answer": [2, 12], "key": 0}
    of = cached(tmp_path, live=live)
    with pytest.raises(UserError, match=r"likeliest-3-of-13-float32 values of \[1, 5\] are not finite"):
        of.fill_rows([*rows, broken], PAD, say=lambda row: str(row["prompt"]))
    assert len(of.missing(answer_keys([broken]))) == 1


@pytest.mark.parametrize("k", [1, 3, 0])
@pytest.mark.parametrize("stored", ROUNDING)
def test_bytes_foretold_are_bytes_stored(k, stored, tmp_path):
    rows = rows_of(300, seed=4)
    of = cached(tmp_path, k=k, stored=stored)
    new = of.missing(answer_keys(rows))
    need, _ = of.space_needed([len(rows[n]["answer"]) for n in new])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fill.BUDGET, "cpu", 4000)
        of.fill_rows(rows, PAD)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert need == pytest.approx(size, rel=0.1)


def test_entries_are_listed_and_damage_is_found_and_mended(tmp_path):
    filled(tmp_path)
    (entry,) = entries(tmp_path)
    assert (entry.name, entry.texts, entry.facts.field, entry.damaged) == (
        "lm",
        distinct(ROWS),
        "likeliest-3-of-13-float32",
        False,
    )
    ((path, whole),) = verify(tmp_path)
    assert whole
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert [good for _, good in verify(tmp_path)] == [False]
    assert filled(tmp_path).forwards == distinct(ROWS)
    assert [good for _, good in verify(tmp_path)] == [True]


def test_in_bfloat16_the_words_are_those_of_the_teacher_under_autocast(tmp_path):
    live = teacher()
    of = CachedLM(live, 13, tmp_path, k=4, stored="float32", computed="bfloat16")
    of.fill_rows(ROWS[:1], PAD)
    batch = batch_of(ROWS[:1])
    with torch.autocast("cpu", torch.bfloat16):
        expected = top_k(live.tokens(batch)(slice(None)), 4, answer_tokens(batch))
    got = everything(of, ROWS[:1])
    assert got.ids.equal(expected.ids)
    assert got.log_probs.equal(expected.log_probs)
    assert not got.log_probs.equal(everything(filled(tmp_path, live=live, k=4), ROWS[:1]).log_probs)
