"""Shards: what is put in comes out again, and what is not whole never does."""

import errno
import os
import random
import resource
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from safetensors.torch import save
from stored_rows import WIDTH, answers, by_text, facts, filled, numbers, random_rows

from contrastill.errors import UserError
from contrastill.teachers import store
from contrastill.teachers.store import DTYPES, Store

EXACT = [name for name in DTYPES if name != "int8"]


def fail(code: int):
    def raises(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    return raises


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- what comes back


@pytest.mark.parametrize("stored", EXACT)
def test_rows_come_back_as_the_cast_made_them(tmp_path, stored):
    opened, everything = filled(tmp_path, facts(stored), texts=20)
    assert len(opened) == 20
    got = answers(opened, list(everything))
    for key, values in everything.items():
        expected = torch.from_numpy(values).to(DTYPES[stored]).float().numpy()
        np.testing.assert_array_equal(got[key].astype(np.float32), expected)
    # otherwise equality above would say nothing of the cast
    assert (stored == "float32") == all((got[key] == values).all() for key, values in everything.items())


def test_int8_rows_come_back_within_half_a_step_of_their_own_scale(tmp_path):
    keys, counts, values = random_rows(20)
    values *= torch.logspace(-8, 8, len(values)).unsqueeze(1)  # a scale for all rows would lose the small ones
    opened = Store(tmp_path, facts("int8"))
    opened.append(keys, counts, values)
    opened.refresh()
    everything = by_text(keys, counts, values)
    for key, got in answers(opened, list(everything)).items():
        assert got.dtype == np.float32
        step = np.abs(everything[key]).max(1, keepdims=True) / 127
        assert (np.abs(got - everything[key]) <= step * 0.501).all()
        assert (got != 0).any(1).all()


@pytest.mark.parametrize("stored", DTYPES)
def test_rows_of_zeros_come_back_as_zeros(tmp_path, stored):
    keys, counts, values = random_rows(6)
    values[::2] = 0
    opened = Store(tmp_path, facts(stored))
    opened.append(keys, counts, values)
    opened.refresh()
    got = np.concatenate([numbers(opened, opened.read(int(row))) for row in opened.find(keys)])
    assert (got[::2] == 0).all()
    assert (got[1::2] != 0).any(1).all()


@pytest.mark.parametrize("stored", DTYPES)
def test_texts_of_different_lengths_keep_their_own_rows(tmp_path, stored):
    counts = np.array([1, 7, 2, 1, 30], np.int32)
    values = torch.arange(int(counts.sum()) * WIDTH).reshape(-1, WIDTH).float() % 128
    values[:, -1] = 127  # so that int8's steps are whole numbers
    keys = random_rows(5)[0]
    opened = Store(tmp_path, facts(stored))
    opened.append(keys, counts, values)
    opened.refresh()
    for key, expected in by_text(keys, counts, values).items():
        np.testing.assert_allclose(answers(opened, [key])[key], expected, rtol=1e-6)


@pytest.mark.parametrize("stored", DTYPES)
def test_reading_into_a_part_of_an_array_writes_that_part_only(tmp_path, stored):
    opened, everything = filled(tmp_path, facts(stored))
    for key, values in answers(opened, list(everything)).items():
        row = int(opened.find(np.frombuffer(key, np.uint8)[None])[0])
        kind = {"bfloat16": np.uint16, "int8": np.float32}.get(stored, stored)
        out = np.full((len(values) + 2, WIDTH), 7, kind)
        opened.read(row, out[1:-1])
        np.testing.assert_array_equal(numbers(opened, out[1:-1]), values)
        assert (out[[0, -1]] == 7).all()


def test_a_text_that_is_not_there_is_minus_one(tmp_path):
    opened, everything = filled(tmp_path, facts(), shards=2)
    there = np.frombuffer(b"".join(everything), np.uint8).reshape(-1, 16)
    absent = random_rows(5, seed=99)[0]
    mixed = np.concatenate([absent[:2], there[:3], absent[2:]])
    assert [row >= 0 for row in opened.find(mixed)] == [False] * 2 + [True] * 3 + [False] * 3
    assert opened.find(np.zeros((1, 16), np.uint8)).tolist() == [-1]
    assert opened.find(np.full((1, 16), 255, np.uint8)).tolist() == [-1]


def test_an_empty_store_finds_nothing_and_makes_no_folder(tmp_path):
    opened = Store(tmp_path / "none", facts())
    assert (len(opened), opened.size) == (0, 0)
    assert opened.find(random_rows(3)[0]).tolist() == [-1, -1, -1]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("other", range(8, 16))
def test_keys_that_share_their_first_eight_bytes_are_not_confused(tmp_path, other):
    keys, counts, values = random_rows(3)
    keys[2, :8] = keys[1, :8]
    opened = Store(tmp_path, facts())
    opened.append(keys, counts, values)
    opened.refresh()
    everything = by_text(keys, counts, values)
    # of two stored texts whose heads agree one may be missed (and is computed again), but never taken for the other
    for key, got in answers(opened, list(everything)).items():
        np.testing.assert_array_equal(got, everything[key])
    twin = keys[:1].copy()
    twin[0, other] ^= 1
    assert opened.find(keys[:1])[0] >= 0
    assert opened.find(twin).tolist() == [-1]


def test_texts_stored_twice_are_found_in_either_place(tmp_path):
    keys, counts, values = random_rows(6)
    opened = Store(tmp_path, facts())
    opened.append(keys, counts, values)
    part = int(counts[:3].sum())
    opened.append(keys[:3], counts[:3], values[:part])
    opened.append(keys, counts, values)  # the very same shard: the very same name
    opened.refresh()
    assert len(opened.shards) == 2
    everything = by_text(keys, counts, values)
    for key, got in answers(opened, list(everything)).items():
        np.testing.assert_array_equal(got, everything[key])
    opened.shards[0].path.unlink()
    opened.refresh()
    assert (opened.find(keys[:3]) >= 0).all()


@pytest.mark.parametrize("stored", EXACT)
def test_rows_of_many_shards_are_read_through_few_open_files(tmp_path, monkeypatch, stored):
    monkeypatch.setattr(store, "OPEN", 2)
    opened, everything = filled(tmp_path, facts(stored), shards=5)
    assert len(opened.shards) == 5
    keys = list(everything) * 3
    random.Random(0).shuffle(keys)
    for key in keys:
        expected = torch.from_numpy(everything[key]).to(DTYPES[stored]).float().numpy()
        np.testing.assert_array_equal(answers(opened, [key])[key].astype(np.float32), expected)
        assert 1 <= len(opened.files) <= 2


def test_the_fields_of_a_deep_teacher_are_read_within_the_usual_1024_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _file: None)  # 1 200 shards
    stores, keys = [], []
    for layer in range(6):
        opened = Store(tmp_path, facts(field=f"layer-{layer}-cls"))
        for seed in range(200):
            key, _, values = random_rows(1, seed=seed)
            opened.append(key, np.ones(1), values[:1])
            keys.append(key)
        opened.refresh()
        stores.append(opened)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        for opened in stores:
            for row in opened.find(np.concatenate(keys[:200])):
                assert opened.read(int(row)).shape == (1, WIDTH)
    finally:
        for opened in stores:
            opened.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_was_appended_is_found_after_a_refresh(tmp_path):
    opened, everything = filled(tmp_path, facts())
    keys, counts, values = random_rows(4, seed=5)
    opened.append(keys, counts, values)
    opened.refresh()
    assert (opened.find(keys) >= 0).all()
    more = everything | by_text(keys, counts, values)
    assert len(opened) == len(more)
    for key, got in answers(opened, list(more)).items():
        np.testing.assert_array_equal(got, more[key])


def test_another_store_of_the_same_facts_reads_what_was_written(tmp_path):
    waiting = Store(tmp_path, facts())
    _, everything = filled(tmp_path, facts(), shards=2)
    assert answers(waiting, list(everything)) == {}
    waiting.refresh()
    for opened in (waiting, Store(tmp_path, facts())):
        got = answers(opened, list(everything))
        assert got.keys() == everything.keys()
        assert all((got[key] == everything[key]).all() for key in got)


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": "a" * 63 + "b"},
        {"field": "layer-2-tokens"},
        {"width": WIDTH + 1},
        {"computed": "bfloat16"},
        {"stored": "float16"},
        {"format": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_fact_leads_to_a_folder_of_its_own(tmp_path, change):
    _, everything = filled(tmp_path, facts())
    other = facts(**change)
    assert other.folder(tmp_path) != facts().folder(tmp_path)
    assert answers(Store(tmp_path, other), list(everything)) == {}


def test_the_folder_says_in_words_what_it_holds(tmp_path):
    opened = Store(tmp_path, facts(), {"name": "my/teacher"})
    opened.append(*random_rows(2))
    text = (opened.folder / "store.json").read_text()
    assert all(f'"{word}"' in text for word in ("my/teacher", "layer-1-tokens", "float32", "a" * 64))


def test_bytes_per_row_are_those_on_disk(tmp_path):
    for stored in DTYPES:
        sizes = []
        for texts in (100, 200):
            opened = Store(tmp_path / str(texts), facts(stored, width=32))
            keys, _, values = random_rows(texts, width=32, longest=1)
            opened.append(keys, np.ones(texts), values)
            opened.refresh()
            sizes.append(opened.size)
        # of 100 rows more: keys and counts too; a header's offsets may take a digit or eight more
        assert 0 <= sizes[1] - sizes[0] - 100 * (facts(stored, width=32).bytes_per_row + 16 + 4) <= 16


# ---- what is damaged


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict[bytes, np.ndarray]]:
    """A store of three shards, never touched: each test damages a copy."""
    root = tmp_path_factory.mktemp("whole")
    return root, filled(root, facts(), shards=3)[1]


@pytest.fixture
def copied(whole, tmp_path) -> tuple[Path, list[Path], dict[bytes, np.ndarray]]:
    """root, shards, what is in them."""
    shutil.copytree(whole[0], tmp_path / "root")
    return tmp_path / "root", sorted((tmp_path / "root").rglob("*.safetensors")), whole[1]


def assert_only_lost(root: Path, shard: Path, everything: dict[bytes, np.ndarray], keys_in: set[bytes]) -> None:
    opened = Store(root, facts())
    assert opened.damaged == [shard]
    assert not shard.exists()
    got = answers(opened, list(everything))
    assert got.keys() == everything.keys() - keys_in
    assert all(np.array_equal(got[key], everything[key]) for key in got)
    assert len(opened.shards) == 2
    assert Store(root, facts()).damaged == []


def keys_of(shard: Path) -> set[bytes]:
    return {key.tobytes() for key in store.Shard.read(shard, facts()).keys}


def flip(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ rng.randrange(1, 256)]) + content[at + 1 :]


def zero(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    size = rng.randint(1, 64)
    changed = content[:at] + bytes(len(content[at : at + size])) + content[at + size :]
    return changed if changed != content else flip(content, rng)  # it was zeros already


FAULTS = {
    "a byte is flipped": (100, flip),
    "it is cut": (40, lambda content, rng: content[: rng.randrange(len(content))]),
    "a block is zeroed": (30, zero),
    "it is longer": (20, lambda content, rng: content + rng.randbytes(rng.randint(1, 9))),
    "two parts are swapped": (9, lambda content, rng: content[(at := rng.randrange(1, len(content))) :] + content[:at]),
    "it is empty": (1, lambda content, rng: b""),
}


@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, (times, _) in FAULTS.items() for n in range(times)], ids=str
)
def test_a_damaged_shard_is_found_removed_and_the_others_served(copied, name, number):
    root, shards, everything = copied
    rng = random.Random(f"{name} {number}")
    shard = rng.choice(shards)
    lost = keys_of(shard)
    shard.write_bytes(FAULTS[name][1](shard.read_bytes(), rng))
    assert_only_lost(root, shard, everything, lost)


@pytest.mark.parametrize("name", ["0" * 32, "model", "copy of a shard"])
def test_a_renamed_shard_is_removed(copied, name):
    root, shards, everything = copied
    lost = keys_of(shards[1])
    assert_only_lost(root, shards[1].rename(shards[1].with_stem(name)), everything, lost)


def test_a_shard_under_another_shard_s_name_is_removed(copied):
    root, shards, everything = copied
    lost = keys_of(shards[0])
    shards[0].write_bytes(shards[1].read_bytes())
    assert_only_lost(root, shards[0], everything, lost)


def test_all_shards_damaged_leave_an_empty_store(copied):
    root, shards, everything = copied
    for shard in shards:
        shard.write_bytes(b"")
    opened = Store(root, facts())
    assert opened.damaged == shards
    assert answers(opened, list(everything)) == {}


def test_what_was_lost_can_be_put_back(copied):
    root, shards, everything = copied
    shards[0].write_bytes(b"")
    opened = Store(root, facts())
    for seed in range(3):
        opened.append(*random_rows(6, seed=seed))
    opened.refresh()
    got = answers(opened, list(everything))
    assert all(np.array_equal(got[key], everything[key]) for key in everything)
    assert len(opened.shards) == 3


def named_by_checksum(folder: Path, content: bytes) -> Path:
    path = folder / f"{xxhash.xxh3_128_hexdigest(content)}.safetensors"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (1 << 62).to_bytes(8, "little") + b"{}",
        save({"weight": torch.zeros(2, WIDTH)}),
        save({"keys": torch.zeros(2, 16, dtype=torch.uint8), "values": torch.zeros(2, WIDTH)}),
    ],
    ids=["empty", "no header", "empty header", "endless header", "other tensors", "no counts"],
)
def test_a_foreign_file_with_the_right_checksum_is_removed(copied, content):
    root, shards, everything = copied
    foreign = named_by_checksum(shards[0].parent, content)
    opened = Store(root, facts())
    assert opened.damaged == [foreign]
    assert not foreign.exists()
    assert answers(opened, list(everything)).keys() == everything.keys()


def test_somebody_s_model_in_the_folder_is_removed(copied):
    root, shards, everything = copied
    foreign = shards[0].with_name("model.safetensors")
    foreign.write_bytes(save({"weight": torch.zeros(3)}))
    opened = Store(root, facts())
    assert opened.damaged == [foreign]
    assert answers(opened, list(everything)).keys() == everything.keys()


@pytest.mark.parametrize(
    "other",
    [facts(width=WIDTH - 1), *(facts(name) for name in DTYPES if name != "float32")],
    ids=lambda other: f"{other.width}-{other.stored}",
)
def test_a_shard_of_another_width_or_type_is_never_served(copied, tmp_path, other):
    root, shards, _ = copied
    stray, _ = filled(tmp_path / "other", other, texts=3)
    # keys of its own, so that whatever is answered for them is made of misread bytes
    keys, counts, values = random_rows(3, width=other.width, seed=77)
    stray.append(keys, counts, values)
    for path in stray.folder.glob("*.safetensors"):
        shutil.copy(path, shards[0].parent)
    assert answers(Store(root, facts()), [key.tobytes() for key in keys]) == {}


def test_a_half_written_file_is_never_read(copied):
    root, shards, everything = copied
    for shard in shards:
        shard.rename(shard.with_suffix(".part"))
    opened = Store(root, facts())
    assert len(opened) == 0
    assert opened.damaged == []
    assert answers(opened, list(everything)) == {}


def test_a_shard_that_another_process_removes_while_the_folder_is_read_is_missing(copied, monkeypatch):
    root, shards, everything = copied
    gone, read = keys_of(shards[1]), store.Shard.read

    def removed(path, about):
        shards[1].unlink(missing_ok=True)
        return read(path, about)

    monkeypatch.setattr(store.Shard, "read", removed)
    opened = Store(root, facts())
    assert opened.damaged == []
    assert answers(opened, list(everything)).keys() == everything.keys() - gone


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.ESTALE], ids=errno.errorcode.get)
def test_a_whole_shard_that_cannot_be_opened_just_now_is_not_deleted(copied, monkeypatch, code):
    root, shards, everything = copied
    before = content_of(shards[0].parent)
    with monkeypatch.context() as patch, suppress(UserError, OSError):
        patch.setattr(Path, "open", fail(code))
        Store(root, facts())
    assert content_of(shards[0].parent) == before
    assert answers(Store(root, facts()), list(everything)).keys() == everything.keys()


def test_a_cache_of_somebody_else_can_be_read(copied, monkeypatch):
    # only a file's owner may set its times; others get EPERM
    root, _, everything = copied
    monkeypatch.setattr(os, "utime", fail(errno.EPERM))
    assert answers(Store(root, facts()), list(everything)).keys() == everything.keys()


# ---- damage while it is in use


@pytest.mark.parametrize("opened_before", [False, True])
@pytest.mark.parametrize("stored", DTYPES)
def test_a_shard_cut_while_in_use_is_an_error_and_never_other_numbers(tmp_path, stored, opened_before):
    opened, everything = filled(tmp_path, facts(stored))
    before = answers(opened, list(everything))
    if not opened_before:
        opened.close()
    shard, size = opened.shards[0], opened.size
    refused = 0
    for length in range(size, 0, -7):
        os.truncate(shard.path, length)
        for key, values in before.items():
            got = None
            with suppress(UserError):  # either is right, but nothing else
                got = answers(opened, [key])[key]
            if got is None:
                refused += 1
            else:
                np.testing.assert_array_equal(got, values)
    assert refused > len(before)
    for key in before:  # of one byte nothing is left
        with pytest.raises(UserError, match="truncated while in use") as error:
            answers(opened, [key])
        assert str(shard.path) in str(error.value)


def test_a_shard_removed_while_in_use_is_still_read_or_an_error_in_words(tmp_path):
    opened, everything = filled(tmp_path, facts(), shards=2)
    key = next(iter(everything))
    answers(opened, [key])  # that one's file is open: removing it does not touch us
    shutil.rmtree(opened.folder)
    np.testing.assert_array_equal(answers(opened, [key])[key], everything[key])
    with pytest.raises(UserError):
        answers(opened, list(everything))


# ---- writes that fail


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
def test_a_write_that_fails_says_so_and_keeps_what_was_there(tmp_path, monkeypatch, call, code):
    opened, everything = filled(tmp_path, facts(), shards=2)
    before = content_of(opened.folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail(code))
        with pytest.raises(UserError, match=r"--cache DIR.*--cache none") as error:
            opened.append(*random_rows(3, seed=9))
    assert os.strerror(code) in str(error.value)
    assert str(opened.folder) in str(error.value)
    assert content_of(opened.folder) == before  # no .part either
    opened.refresh()
    assert answers(opened, list(everything)).keys() == everything.keys()


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_first_write_that_fails_leaves_nothing_that_is_read(tmp_path, monkeypatch, call):
    opened = Store(tmp_path, facts())
    monkeypatch.setattr(os, call, fail(errno.ENOSPC))
    with pytest.raises(UserError, match="No space left"):
        opened.append(*random_rows(3))
    assert content_of(opened.folder) == {}


def test_a_write_that_is_interrupted_leaves_no_part_behind(tmp_path, monkeypatch):
    opened, _ = filled(tmp_path, facts())
    before = content_of(opened.folder)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened.append(*random_rows(3, seed=9))
    assert content_of(opened.folder) == before


def test_what_float16_cannot_hold_is_refused_with_advice(tmp_path):
    keys, counts, values = random_rows(3)
    values[1, 2] = 70_000
    opened = Store(tmp_path, facts("float16"))
    with pytest.raises(UserError, match=r"7e\+04.*--cache-dtype bfloat16"):
        opened.append(keys, counts, values)
    opened.refresh()
    assert len(opened) == 0
    for stored in ("bfloat16", "float32", "int8"):
        other = Store(tmp_path, facts(stored))
        other.append(keys, counts, values)
        other.refresh()
        assert answers(other, [keys[0].tobytes(), keys[1].tobytes()])
