"""The settings of a run, and the record that repeats it."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from contrastill import Distillation, Evaluation, Finetuning, UserError
from contrastill.training.method_choice import with_method

GIVEN = {"teacher": "t", "data": "d", "out": "o", "set": {"queue": 3}, "stages": {"joint": 0.5}, "seed": 4}


def stored(tmp_path: Path, settings: object) -> Path:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"settings": settings}))
    return path


def test_a_record_gives_back_the_settings(tmp_path: Path) -> None:
    asked = Distillation(**GIVEN)
    assert Distillation.of(stored(tmp_path, asked.record())) == asked
    assert Distillation(**asked.record()) == asked


def test_changes_replace_what_is_stored(tmp_path: Path) -> None:
    again = Distillation.of(stored(tmp_path, Distillation(**GIVEN).record()), out="p", seed=5)
    assert (again.out, again.seed, again.set, again.teacher) == ("p", 5, {"queue": 3}, "t")


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", '{"settings": 3}', '{"settings": []}', "{", "\xff"])
def test_what_is_no_run_json_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"run\.json"):
        Distillation.of(tmp_path / "run.json")


def test_a_run_json_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none"):
        Distillation.of(tmp_path / "none" / "run.json")


def test_settings_of_another_command_are_refused_by_name(tmp_path: Path) -> None:
    path = stored(tmp_path, Finetuning(model="m", data="d", out="o").record())
    with pytest.raises(UserError, match="model"):
        Distillation.of(path)


def test_a_run_json_without_what_is_required_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="teacher"):
        Distillation.of(stored(tmp_path, {"data": "d", "out": "o"}))


@pytest.mark.parametrize("settings", [Distillation, Finetuning, Evaluation])
def test_every_setting_has_help_and_a_panel(settings: type) -> None:
    fields = dataclasses.fields(settings)
    assert len(fields) > 10
    assert [f.name for f in fields if not f.metadata.get("help") or not f.metadata.get("panel")] == []


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({"teacher": "t"}, "lrc_bert"),
        ({"teacher": "t", "student": "as-is", "start": "small"}, "lrc_bert"),
        ({"teacher_outputs": "answers.jsonl", "student": "as-is", "start": "small"}, "kd"),
        ({"teacher": "t", "student": "static-256"}, "kd"),
        ({"teacher": "t", "student": "static-256", "set": {"temperature": 3}}, "kd"),
    ],
)
def test_a_method_that_is_not_asked_for_suits_teacher_and_student(given: dict[str, str], method: str) -> None:
    settings, decided = with_method(Distillation(out="run", data="data", **given))
    assert settings.method == method
    assert decided["method"].startswith(f"{method}: ")
    page, _, place = decided["method"].rpartition("; ")[2].partition("#")
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    assert not place or place in {slug(line) for line in text.splitlines() if line.startswith("#")}


def slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower().lstrip("# ")).replace(" ", "-")


def test_a_setting_that_one_method_has_asks_for_it() -> None:
    asked = {"teacher": "t", "student": "static-256", "set": {"granularity": "mean"}}
    settings, decided = with_method(Distillation(out="run", data="data", **asked))
    assert settings.method == "lrc_bert"
    assert decided["method"] == "lrc_bert: it has 'granularity', which --set gives"
    nobody = Distillation(out="run", data="data", teacher="t", set={"granularty": "mean"})
    assert with_method(nobody)[0].method == "lrc_bert"  # whose settings the error then names


def test_a_method_that_is_asked_for_is_taken() -> None:
    settings = Distillation(out="run", data="data", teacher="t", student="static-256", method="lrc_bert")
    assert with_method(settings) == (settings, {})
