"""Seals: each edit of bundle.json and each changed file is found; a re-made seal still has to fit."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from contrastill.bundle import FORMAT, METADATA, open_bundle, read_metadata
from contrastill.errors import UserError
from contrastill.exporting.verify import verify
from contrastill.seal import SEAL, changed_file, file_seals, seal_of

spec = importlib.util.spec_from_file_location("bundles", Path(__file__).parents[1] / "fuzz" / "bundles.py")
fuzz = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)


@pytest.fixture
def copied(bundle_of, tmp_path):
    return shutil.copytree(bundle_of("bert"), tmp_path / "copy")


def metadata_of(folder):
    return json.loads((folder / METADATA).read_text(encoding="utf-8"))


def test_each_edit_of_each_entry_is_found(copied):
    metadata, missed, count = metadata_of(copied), [], 0
    for what, text in fuzz.edits(metadata):
        if text == json.dumps(metadata):  # the value that was there
            continue
        count += 1
        (copied / METADATA).write_text(text, encoding="utf-8")
        try:
            read_metadata(copied)
            missed.append(what)
        except UserError:
            pass
    assert missed == []
    assert count > 500
    for command in (open_bundle, lambda folder: verify(bundle=str(folder))):
        with pytest.raises(UserError, match=r"expected JSON, got a damaged file .two entries are called"):
            command(copied)


def test_a_seal_that_a_mistaken_tool_made_is_read_or_refused_in_words(copied):
    metadata = metadata_of(copied)
    for what, text in fuzz.edits(metadata):
        edited = json.loads(text)
        (copied / METADATA).write_text(json.dumps(fuzz.sealed(edited)), encoding="utf-8")
        try:
            read = read_metadata(copied)
        except UserError:
            continue
        assert read["format"] == FORMAT, what
        assert read["labels"] is not None, what


def test_spaces_and_the_order_of_keys_are_free(copied):
    metadata = metadata_of(copied)
    turned = dict(reversed(metadata.items()))
    (copied / METADATA).write_text(json.dumps(turned, indent=4, ensure_ascii=True))
    assert read_metadata(copied) == metadata


@pytest.mark.parametrize("part", [0, 0.5, 1])
def test_a_flipped_bit_of_each_file_is_found(part, copied):
    sealed = metadata_of(copied)["files"]
    assert set(sealed) == {path.name for path in copied.iterdir()} - {"README.md", METADATA}
    for name in sealed:
        content = (copied / name).read_bytes()
        changed = bytearray(content)
        changed[int(part * (len(changed) - 1))] ^= 1
        (copied / name).write_bytes(changed)
        with pytest.raises(UserError, match=f"{name}: not the file that was exported"):
            open_bundle(copied)
        (copied / name).write_bytes(content)


def test_a_bundle_made_before_seals_is_refused_and_opened_unchecked(copied):
    old = {name: value for name, value in metadata_of(copied).items() if name != SEAL} | {"format": 1}
    (copied / METADATA).write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"of format 1, made before bundles had checksums.*export the model again"):
        open_bundle(copied)
    assert open_bundle(copied, check=False).run(["red"]).shape == (1, 3)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"probes": None}, "expected stored texts with their answers .probes., found none"),
        ({"probes": {}}, "expected stored texts with their answers .probes., found none"),
        ({"probes": ["red"]}, "the stored answers .probes. are damaged"),
        ({"probes": {"texts": [], "answers": [], "labels": []}}, "the stored answers .probes. are damaged"),
    ],
)
def test_a_bundle_without_whole_probes_is_not_verified(entries, message, copied):
    (copied / METADATA).write_text(json.dumps(fuzz.sealed(metadata_of(copied) | entries)))
    with pytest.raises(UserError, match=message):
        verify(bundle=str(copied))


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 0, 2]])
def test_labels_in_another_order_are_a_problem_though_the_seal_was_made_anew(order, copied):
    metadata = metadata_of(copied)
    labels = [metadata["labels"][n] for n in order]
    (copied / METADATA).write_text(json.dumps(fuzz.sealed(metadata | {"labels": labels})))
    (problem,) = verify(bundle=str(copied))["problems"]
    assert "when it was exported, here" in problem


def test_a_seal_is_of_what_is_said_and_not_of_how_it_is_written():
    entries = {"b": [1.0, "ü"], "a": {"y": None, "x": True}}
    assert seal_of(entries) == seal_of({"a": {"x": True, "y": None}, "b": [1.0, "ü"], SEAL: "any"})
    for other in ({"b": [1, "ü"]}, {"b": ["ü", 1.0]}, {"a": {"y": None, "x": 1}}, {"c": 1}):
        assert seal_of(entries | other) != seal_of(entries)


def test_the_first_file_that_differs_is_named(tmp_path):
    for name in ("a", "b/c", "free"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    seals = file_seals(tmp_path, ["free"])
    assert set(seals) == {"a", "b/c"}
    assert changed_file(tmp_path, seals) is None
    (tmp_path / "free").write_text("changed")
    (tmp_path / "new").write_text("added")
    assert changed_file(tmp_path, seals) is None
    (tmp_path / "b" / "c").write_text("b/d")
    assert changed_file(tmp_path, seals) == "b/c"
    (tmp_path / "a").unlink()
    assert changed_file(tmp_path, seals) == "a"
