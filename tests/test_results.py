"""The one reader and writer of what a run wrote of itself."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from contrastill import UserError
from contrastill.loading import load_classifier, load_encoder, load_tokenizer, model_folder
from contrastill.results import RunRecord, check_sealed, located, read_metrics
from contrastill.seal import file_seals

WHOLE = {
    "command": "distill",
    "settings": {"seed": 3, "teacher": "org/name"},
    "status": "running",
    "machine": {"cpu": "x"},
}


def written(folder: Path, content: object) -> Path:
    (folder / "run.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = RunRecord.read(written(tmp_path, {**WHOLE, "cwd": str(tmp_path)}))
    assert record.to_json() == {**WHOLE, "cwd": str(tmp_path)}
    assert record.setting("seed", int) == 3
    assert record.setting("data", str) is None
    assert record.fact("machine", dict) == {"cpu": "x"}
    assert RunRecord.read(tmp_path / "run.json") == record


@pytest.mark.parametrize(
    "content",
    ["", "{", "3", "[]", "null", "[" * 100_000, '{"a": ' * 100_000, "9" * 5000, '"\\ud800"', "\0"]
    + [json.dumps({**WHOLE, "settings": other}) for other in (None, 3, [], "x")]
    + [json.dumps({**WHOLE, "status": other}) for other in (3, [], "done", True)]
    + [json.dumps({**WHOLE, "command": other}) for other in (3, ["distill"], {})]
    + [json.dumps({**WHOLE, "cwd": other}) for other in (3, ["x"])],
)
def test_a_damaged_record_is_a_users_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"run\.json: expected ") as found:
        RunRecord.read(written(tmp_path, content))
    assert len(str(found.value)) < 500


@pytest.mark.parametrize("wrong", ["3", 3.0, True, [3], {"a": 3}])
def test_a_value_of_another_kind_is_a_users_error_that_names_its_key(tmp_path: Path, wrong: object) -> None:
    record = RunRecord.read(written(tmp_path, {**WHOLE, "settings": {"seed": wrong}, "steps": wrong}))
    with pytest.raises(UserError, match=r"run\.json: expected settings\.seed to be a whole number, got"):
        record.setting("seed", int)
    with pytest.raises(UserError, match=r"run\.json: expected steps to be a whole number, got"):
        record.fact("steps", int)


@pytest.mark.parametrize("content", [None, "", "[]", "{" * 50_000])
def test_damaged_scores_are_a_users_error_that_names_the_file(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json: expected "):
        read_metrics(tmp_path)


def test_a_model_knows_the_run_that_made_it(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    assert RunRecord.of_model(tmp_path / "student") is None
    assert RunRecord.of_model("org/name") is None
    written(tmp_path, WHOLE)
    record = RunRecord.of_model(tmp_path / "student")
    assert record is not None
    assert record.command == "distill"


def test_what_exists_becomes_an_absolute_path_and_names_stay_names(tmp_path: Path) -> None:
    for folder in ("teacher", "random", "glue"):
        (tmp_path / folder).mkdir()
    (tmp_path / "d.csv").touch()
    given = {
        "data": "d.csv", "dev": "gone.csv", "teacher": ["teacher", "org/name"], "start": "random", "sts": "hub",
        "texts": ["./x/../d.csv"], "pairs": "glue/mrpc:glue", "text": "d.csv", "test": None, "cache": "c", "out": "o",
    }  # fmt: skip
    assert located(given, tmp_path) == {
        **given,
        "data": f"{tmp_path}/d.csv",
        "teacher": [f"{tmp_path}/teacher", "org/name"],
        "texts": [f"{tmp_path}/d.csv"],
        "pairs": f"glue/mrpc:{tmp_path}/glue",
        "cache": f"{tmp_path}/c",
    }


def test_the_relative_paths_of_a_record_count_from_where_the_run_was_started(tmp_path: Path) -> None:
    (tmp_path / "d.csv").touch()
    content = {**WHOLE, "settings": {"data": "d.csv"}}
    assert RunRecord.read(written(tmp_path, content)).settings == {"data": "d.csv"}
    content["cwd"] = str(tmp_path)
    assert RunRecord.read(written(tmp_path, content)).settings == {"data": f"{tmp_path}/d.csv"}


# ---- the files of the model


@pytest.fixture
def run_with_model(tmp_path: Path) -> Path:
    """A run's folder whose record seals the files of its student; nothing in them can be loaded."""
    student = tmp_path / "runs" / "x" / "student"
    (student / "1_Pooling").mkdir(parents=True)
    (student / "model.safetensors").write_bytes(random.Random(0).randbytes(4096))
    (student / "config.json").write_text('{"model_type": "bert"}')
    (student / "1_Pooling" / "config.json").write_text("{}")
    seals = {f"student/{name}": seal for name, seal in file_seals(student).items()}
    (student / "README.md").write_text("a card")
    written(student.parent, {**WHOLE, "files": seals})
    return student.parent


@pytest.mark.parametrize("seed", range(30))
def test_a_bit_flipped_in_a_run_s_weights_is_found_before_they_are_loaded(run_with_model: Path, seed: int) -> None:
    file = run_with_model / "student" / "model.safetensors"
    assert model_folder(str(run_with_model)) == str(file.parent)
    content, drawn = bytearray(file.read_bytes()), random.Random(seed)
    content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"student/model.safetensors is not the file that the run saved .*run.json"):
        model_folder(str(run_with_model))


@pytest.mark.parametrize("load", [load_classifier, load_encoder, load_tokenizer, model_folder])
@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json"])
def test_each_door_looks_at_each_file(run_with_model: Path, load: Any, name: str) -> None:
    (run_with_model / "student" / name).write_text('{"model_type": "bart"}')
    with pytest.raises(UserError, match=f"student/{name} is not the file that the run saved"):
        load(str(run_with_model / "student"))


def test_a_missing_file_of_a_model_is_named_and_a_card_may_be_edited(run_with_model: Path) -> None:
    (run_with_model / "student" / "README.md").write_text("another card")
    check_sealed(run_with_model / "student")
    (run_with_model / "student" / "config.json").unlink()
    with pytest.raises(UserError, match=r"config.json is not the file .*damaged, changed or deleted.*give the copy"):
        check_sealed(run_with_model / "student")


def test_a_copy_elsewhere_and_a_run_without_seals_are_not_checked(run_with_model: Path, tmp_path: Path) -> None:
    (run_with_model / "student" / "config.json").write_text("{}")
    (run_with_model / "student").rename(tmp_path / "copy")
    check_sealed(tmp_path / "copy")
    (tmp_path / "copy").rename(run_with_model / "student")
    written(run_with_model, WHOLE)
    check_sealed(run_with_model / "student")


@pytest.mark.parametrize("files", [[], {"student/a": 1}, {"student/a": {"bytes": 1}}, {"student/a": {"sha256": "0"}}])
def test_seals_that_are_damaged_are_an_error_of_the_record(run_with_model: Path, files: object) -> None:
    written(run_with_model, {**WHOLE, "files": files})
    with pytest.raises(UserError, match=r"run.json: expected files"):
        check_sealed(run_with_model / "student")
