"""The folder of all caches: found, described, verified, emptied; and nothing else in it is touched."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from stored_rows import facts, filled

from contrastill.errors import UserError
from contrastill.teachers import cache_root
from contrastill.teachers.folder import MARK, entries, make_cache_folder, prune, verify

DAY = 86400


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def aged(root: Path, about, days: float, name: str = "") -> Path:
    """An entry of 2 shards of 6 texts, last used so many days ago."""
    opened, _ = filled(root, about, shards=2)
    place = opened.folder / "store.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"name": name}))
    os.utime(place, (time.time() - days * DAY,) * 2)
    return opened.folder


@pytest.fixture
def root(tmp_path) -> Path:
    """Two teachers: one with fields used today and 10 days ago, the other with one used 40 days ago."""
    root = tmp_path / "root"
    aged(root, facts(), 0, "org/first")
    aged(root, facts("float16", field="logits"), 10, "org/first")
    aged(root, facts(teacher="b" * 64), 40, "org/second")
    return root


# ---- where it is


def test_the_folder_is_the_one_given_else_of_the_environment_else_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("CONTRASTILL_CACHE", "/env")
    assert cache_root("/given") == cache_root(Path("/given")) == Path("/given")
    assert cache_root("~/given") == tmp_path / "given"
    assert cache_root() == cache_root(None) == Path("/env")
    monkeypatch.setenv("CONTRASTILL_CACHE", "~/env")
    assert cache_root() == tmp_path / "env"
    for unset in (lambda: monkeypatch.setenv("CONTRASTILL_CACHE", ""), lambda: monkeypatch.delenv("CONTRASTILL_CACHE")):
        unset()
        assert cache_root() == Path("/xdg/contrastill")
    for unset in (lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""), lambda: monkeypatch.delenv("XDG_CACHE_HOME")):
        unset()
        assert cache_root() == tmp_path / ".cache/contrastill"


def test_the_folder_says_that_it_is_a_cache(tmp_path):
    make_cache_folder(tmp_path / "a/b")
    text = (tmp_path / "a/b" / MARK).read_text()
    assert MARK == "CACHEDIR.TAG"
    assert text.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")  # bford.info/cachedir
    (tmp_path / "a/b" / MARK).write_text("mine")
    make_cache_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b" / MARK).read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/cache.*--cache DIR.*--cache none"):
        make_cache_folder(tmp_path / "file/cache")


@pytest.mark.parametrize("call", ["mkdir", "write_text"])
def test_a_folder_that_cannot_be_written_to_is_an_error_that_names_the_way_out(tmp_path, monkeypatch, call):
    def refuse(self, *what, **how):  # as the system does, but for the superuser too
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(UserError, match=r"locked: Permission denied.*--cache DIR.*--cache none"):
        make_cache_folder(tmp_path / "locked")


# ---- what is in it


def test_entries_are_every_field_of_every_teacher(root):
    found = {(entry.name, entry.facts.field): entry for entry in entries(root)}
    assert found.keys() == {("org/first", "layer-1-tokens"), ("org/first", "logits"), ("org/second", "layer-1-tokens")}
    assert [entry.texts for entry in found.values()] == [12, 12, 12]
    for (_, field), entry in found.items():
        assert entry.facts.folder(root) == entry.folder
        assert entry.facts.stored == ("float16" if field == "logits" else "float32")
        assert entry.bytes == sum(path.stat().st_size for path in entry.folder.glob("*.safetensors"))
    assert found["org/second", "layer-1-tokens"].used == pytest.approx(time.time() - 40 * DAY, abs=60)


def test_an_empty_or_missing_folder_has_no_entries(tmp_path):
    assert list(entries(tmp_path)) == list(entries(tmp_path / "none")) == list(verify(tmp_path / "none")) == []


def test_opening_a_store_says_that_it_was_used(root):
    about = facts(teacher="b" * 64)
    filled_before = {entry.folder: entry.used for entry in entries(root)}
    from contrastill.teachers.store import Store

    Store(root, about)
    used = {entry.folder: entry.used for entry in entries(root)}
    assert used[about.folder(root)] == pytest.approx(time.time(), abs=60)
    changed = {folder for folder in used if used[folder] != filled_before[folder]}
    assert changed == {about.folder(root)}


def test_a_damaged_shard_s_texts_do_not_stop_the_listing(root):
    shards = sorted(facts().folder(root).glob("*.safetensors"))
    for content in (b"", b"{", b"\xff" * 99, (5).to_bytes(8, "little") + b"[1,2]", (2).to_bytes(8, "little") + b"[]"):
        shards[0].write_bytes(content)
        entry = next(entry for entry in entries(root) if entry.folder == facts().folder(root))
        assert entry.texts == 6
    shards[0].write_bytes((22).to_bytes(8, "little") + b'{"counts": {"shape":0}}')
    assert len(list(entries(root))) == 3


def test_verify_finds_what_is_damaged_and_changes_nothing(root):
    before = {path for path, whole in verify(root) if whole}
    assert before == set(root.rglob("*.safetensors"))
    assert len(before) == 6
    shards = sorted(before)
    content = bytearray(shards[1].read_bytes())
    content[len(content) // 2] ^= 4
    shards[1].write_bytes(content)
    shards[4].write_bytes(shards[4].read_bytes()[:-1])
    foreign = shards[0].with_name("model.safetensors")
    foreign.write_bytes(b"")
    state = tree(root)
    times = {path: path.stat().st_mtime for path in root.rglob("*")}
    assert {path for path, whole in verify(root) if not whole} == {shards[1], shards[4], foreign}
    assert tree(root) == state
    assert {path: path.stat().st_mtime for path in root.rglob("*")} == times


# ---- how it is emptied


def fields_left(root: Path) -> set[tuple[str, str]]:
    return {(entry.name, entry.facts.field) for entry in entries(root)}


ALL = {("org/first", "layer-1-tokens"), ("org/first", "logits"), ("org/second", "layer-1-tokens")}


@pytest.mark.parametrize(
    ("days", "gone"),
    [
        (100, set()),
        (30, {("org/second", "layer-1-tokens")}),
        (5, ALL - {("org/first", "layer-1-tokens")}),
        (0, ALL),
    ],
)
def test_what_was_not_used_for_so_long_is_deleted(root, days, gone):
    deleted = prune(root, unused_days=days)
    assert {(entry.name, entry.facts.field) for entry in deleted} == gone
    assert fields_left(root) == ALL - gone
    assert not any(entry.folder.exists() for entry in deleted)


@pytest.mark.parametrize("teacher", ["org/first", "a" * 64, "a" * 8])
def test_a_teacher_is_deleted_by_name_or_by_the_beginning_of_its_fingerprint(root, teacher):
    assert len(prune(root, teacher=teacher)) == 2
    assert fields_left(root) == {("org/second", "layer-1-tokens")}
    assert not (root / ("a" * 16)).exists()


@pytest.mark.parametrize("teacher", ["org/fir", "c", "first", "A" * 16])
def test_other_names_delete_nothing(root, teacher):
    before = tree(root)
    assert prune(root, teacher=teacher) == []
    assert tree(root) == before


def test_both_conditions_must_hold(root):
    assert {entry.facts.field for entry in prune(root, unused_days=5, teacher="org/first")} == {"logits"}
    assert fields_left(root) == ALL - {("org/first", "logits")}


def test_a_dry_run_says_what_would_go_and_changes_nothing(root):
    before = tree(root)
    assert len(prune(root, unused_days=5, dry_run=True)) == 2
    assert tree(root) == before
    assert len(prune(root, unused_days=5)) == 2


@pytest.mark.parametrize("criterion", [{}, {"teacher": ""}], ids=["none", "an empty name"])
def test_without_a_criterion_nothing_is_deleted(root, criterion):
    # `--teacher "$UNSET"` is no wish to delete everything
    before = tree(root)
    with pytest.raises(UserError, match=r"--unused-days.*--teacher"):
        prune(root, **criterion)
    assert tree(root) == before


def test_with_a_teacher_s_last_field_its_students_starts_go_too(root):
    for letter in "ab":
        (root / (letter * 16) / "starts").mkdir()
        (root / (letter * 16) / "starts/x.safetensors").write_bytes(b"x")
    prune(root, unused_days=5)
    assert {path.name for path in root.iterdir()} == {"a" * 16}
    assert (root / ("a" * 16) / "starts/x.safetensors").exists()


@pytest.mark.parametrize("content", [None, "", "{", "[]", "3", '{"teacher": "x"}', "[" * 99_999, "\xff", "other"])
def test_a_damaged_description_is_listed_found_mended_and_pruned(root, content):
    from contrastill.teachers.store import Store

    about = facts(teacher="b" * 64)
    place = about.folder(root) / "store.json"
    if content == "other":
        content = (facts().folder(root) / "store.json").read_text()

    def damage():
        place.unlink()
        if content is not None:
            place.write_bytes(content.encode("latin-1"))

    damage()
    [entry] = [entry for entry in entries(root) if entry.damaged]
    assert (entry.folder, entry.texts, entry.facts.teacher) == (about.folder(root), 12, "b" * 16)
    assert (entry.facts.field, entry.facts.stored) == (about.field, about.stored)
    assert entry.bytes == sum(path.stat().st_size for path in entry.folder.glob("*.safetensors"))
    assert [path for path, whole in verify(root) if not whole] == [place]
    assert [gone.damaged for gone in prune(root, teacher="b" * 8, dry_run=True)] == [True]
    Store(root, about)  # whoever uses it tells again what it is
    assert not any(entry.damaged for entry in entries(root))
    damage()
    prune(root, teacher="b" * 16)
    assert not place.parent.parent.exists()
    assert len(list(entries(root))) == 2


def test_pruning_one_field_leaves_another_whose_description_is_lost(root):
    lost = facts("float16", field="logits").folder(root)
    (lost / "store.json").unlink()
    os.utime(facts().folder(root) / "store.json", (time.time() - 20 * DAY,) * 2)
    assert [gone.folder for gone in prune(root, unused_days=15, teacher="a" * 16)] == [facts().folder(root)]
    assert len(list(lost.iterdir())) == 2


def test_what_is_not_ours_stays(root):
    (root / "notes.txt").write_text("mine")
    for content in ("{}", "", "[]", "3", '{"teacher": "x"}', "\xff"):
        folder = root / f"project {len(content)}" / "field"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "store.json").write_bytes(content.encode("latin-1"))
        (folder / "data.bin").write_text("mine")
    before = {name: content for name, content in tree(root).items() if name.startswith(("notes", "project"))}
    assert len(prune(root, unused_days=0)) == 3
    assert tree(root) == before


def test_a_copy_of_an_entry_among_one_s_own_files_does_not_take_them_along(root):
    shutil.copytree(facts().folder(root), root / "thesis" / "copied")
    (root / "thesis" / "chapter.txt").write_text("mine")
    prune(root, unused_days=0)
    assert (root / "thesis" / "chapter.txt").exists()
