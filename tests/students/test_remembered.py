"""Students' starts: worked out once for all that they depend on."""

import errno
import logging
import os
from pathlib import Path

import pytest
import torch

from contrastill import mapping, students
from contrastill.students.remembered import code, remembered_start

ASKED = {"student": "2/16/4/32", "seed": 0, "sample": [[1, 2], [3]]}


class Maker:
    """Counts what it makes; every model it makes by itself is another."""

    def __init__(self, tiny_model) -> None:
        self.tiny_model, self.made, self.blanks = tiny_model, [], 0

    def make(self):
        self.made.append(self.tiny_model(seed=100 + len(self.made)).eval())
        return self.made[-1]

    def blank(self):
        self.blanks += 1
        return self.tiny_model(seed=self.blanks).eval()

    def start(self, folder, asked=ASKED):
        return remembered_start(folder, asked, self.make, self.blank)


@pytest.fixture
def maker(tiny_model) -> Maker:
    return Maker(tiny_model)


def same(one, other) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_start_is_made_once_and_then_remembered_to_the_bit(maker, tmp_path):
    first = maker.start(tmp_path / "starts")
    assert (first is maker.made[0], maker.blanks) == (True, 0)
    for n in (1, 2):
        again = maker.start(tmp_path / "starts")
        assert (len(maker.made), maker.blanks) == (1, n)
        assert again is not first
        assert same(again, first)
        assert not same(again, maker.tiny_model(seed=n))  # not the blank's own weights
        assert not again.training
    assert len(list((tmp_path / "starts").iterdir())) == 1


def test_a_remembered_start_can_be_trained_without_changing_what_is_remembered(maker, tmp_path):
    first = maker.start(tmp_path)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    for model in (first, maker.start(tmp_path)):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(1.0)
    again = maker.start(tmp_path).state_dict()
    assert all(torch.equal(again[name], before[name]) for name in before)


@pytest.mark.parametrize("change", [{"student": "1L"}, {"seed": 1}, {"sample": [[1, 2], [4]]}, {"code": "x"}], ids=str)
def test_what_depends_on_something_else_is_made_anew(maker, tmp_path, change):
    first = maker.start(tmp_path)
    second = maker.start(tmp_path, ASKED | change)
    assert len(maker.made) == 2
    assert not same(first, second)
    assert same(maker.start(tmp_path), first)  # both are remembered
    assert same(maker.start(tmp_path, ASKED | change), second)
    assert len(maker.made) == 2


@pytest.mark.parametrize(
    "path", [*Path(students.__path__[0]).glob("*.py"), Path(mapping.__file__)], ids=lambda p: p.name
)
def test_other_code_in_any_file_that_decides_a_start_is_other_code(path, monkeypatch):
    before, read = code(), Path.read_bytes
    assert code() == before
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + (b"#" if self == path else b""))
    assert code() != before


def test_the_order_of_what_it_depends_on_does_not_matter(maker, tmp_path):
    maker.start(tmp_path)
    maker.start(tmp_path, dict(reversed(ASKED.items())))
    assert len(maker.made) == 1


def flipped(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda content: content[:-1], lambda content: b"", lambda content: content + b"\0"],
    ids=["a bit flipped", "cut", "emptied", "extended"],
)
def test_a_damaged_start_is_made_again_and_remembered_anew(maker, tmp_path, damage, caplog):
    maker.start(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        second = maker.start(tmp_path)
    assert second is maker.made[1]
    assert f"{path} is damaged" in caplog.text
    assert not path.exists()
    assert same(maker.start(tmp_path), second)
    assert len(maker.made) == 2


def test_a_start_of_another_shape_under_our_name_is_made_again(maker, tmp_path):
    wide = Maker(lambda seed: maker.tiny_model(width=8, seed=seed))
    wide.start(tmp_path)
    assert maker.start(tmp_path) is maker.made[0]
    assert same(maker.start(tmp_path), maker.made[0])


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_costs_the_memory_only(maker, tmp_path, monkeypatch, caplog, call):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, call, full)
        assert maker.start(tmp_path) is maker.made[0]
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []
    assert maker.start(tmp_path) is maker.made[1]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_costs_the_memory_only(maker, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        assert maker.start(tmp_path / "file/starts") is maker.made[0]
    assert "was not stored" in caplog.text


def test_a_half_written_start_is_not_read(maker, tmp_path):
    maker.start(tmp_path)
    (path,) = tmp_path.iterdir()
    path.rename(path.with_suffix(".part"))
    assert maker.start(tmp_path) is maker.made[1]


def test_the_random_state_is_not_the_cache_s_business(maker, tmp_path):
    # a second run, which makes nothing, must draw the same dropout as the first
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        remembered_start(tmp_path, ASKED, lambda: apart(maker.make), lambda: apart(maker.blank))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    assert (len(maker.made), maker.blanks) == (1, 1)


def apart(build):
    """As `make_student` does."""
    with torch.random.fork_rng(devices=[]):
        return build()
