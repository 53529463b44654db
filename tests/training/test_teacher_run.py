"""`distill --teacher RUN` alone: what is taken from the run that made the teacher, and what given options change."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from workshop import QUICK, Workshop

from contrastill import Distillation, UserError, distill
from contrastill.training.teacher_run import as_teacher


def run_of(folder: Path, **settings: Any) -> str:
    """A finetune run's folder with these settings; returns its model's folder."""
    (folder / "model").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"command": "finetune", "settings": settings}))
    return str(folder / "model")


@pytest.fixture
def teacher(tmp_path: Path) -> dict[str, Any]:
    """The settings of the run at `tmp_path/run`."""
    for name in ("d.csv", "other.csv", "dev.csv"):
        (tmp_path / name).touch()
    settings = {
        "data": f"{tmp_path}/d.csv",
        "dev": f"{tmp_path}/dev.csv",
        "text": "q",
        "dev_share": 0.2,
        "encoding": "latin-1",
        "limit": 50,
        "metric": "f1",
    }
    run_of(tmp_path / "run", **settings)
    return settings


def asked(tmp_path: Path, **settings: Any) -> Distillation:
    return Distillation(**{"teacher": f"{tmp_path}/run", "out": "o", **settings})


def test_data_and_how_they_are_read_are_those_of_the_teachers_run(
    tmp_path: Path, teacher: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for place in ("run", "run/model"):
        found, taken = as_teacher(asked(tmp_path, teacher=f"{tmp_path}/{place}"))
        assert {name: getattr(found, name) for name in teacher} == teacher == taken
        assert found.label is found.test is None
        assert as_teacher(found) == (found, {})
    assert f"as in the teacher's run: data = {tmp_path}/d.csv, limit = 50, metric = f1, text = q" in caplog.text


def test_with_the_same_data_given_the_rows_held_out_are_the_teachers_and_all_others_may_be_learnt(
    tmp_path: Path, teacher: dict[str, Any]
) -> None:
    _, taken = as_teacher(asked(tmp_path, data=f"{tmp_path}/d.csv"))
    assert taken == {name: teacher[name] for name in ("text", "dev", "dev_share", "encoding")}


def test_what_is_given_is_kept(tmp_path: Path, teacher: dict[str, Any]) -> None:
    given = {"text": "t", "dev": "x.csv", "dev_share": 0.1, "encoding": "utf-8", "limit": 9, "metric": "accuracy"}
    found, taken = as_teacher(asked(tmp_path, **given))
    assert {name: getattr(found, name) for name in given} == given
    assert taken == {"data": teacher["data"]}


@pytest.mark.parametrize("changes", [{"data": "other.csv"}, {"teacher": "org/name", "data": "d.csv"}])
def test_other_data_and_teachers_of_no_run_leave_the_defaults(
    tmp_path: Path, teacher: dict[str, Any], changes: dict[str, str]
) -> None:
    changes["data"] = f"{tmp_path}/{changes['data']}"
    found, taken = as_teacher(asked(tmp_path, **changes))
    assert (found.dev_share, found.encoding, found.text, found.dev, taken) == (None, "utf-8", None, None, {})


def test_a_record_of_before_lacks_settings_and_they_have_their_defaults(tmp_path: Path) -> None:
    run_of(tmp_path / "run", data="glue/mrpc")
    found, taken = as_teacher(asked(tmp_path))
    assert (found.data, found.dev_share, found.encoding) == ("glue/mrpc", None, "utf-8")
    assert taken == {"data": "glue/mrpc"}


@pytest.mark.parametrize("name", ["run", "org/name", "bare"])
def test_without_data_an_error_says_what_to_give(tmp_path: Path, name: str) -> None:
    run_of(tmp_path / "run", model="m", pairs="p.csv")
    (tmp_path / "bare").mkdir()
    place = name if "/" in name else f"{tmp_path}/{name}"
    with pytest.raises(UserError, match=r"--data: expected the data to distil on, got none, and .* give --data, or"):
        as_teacher(asked(tmp_path, teacher=place))


@pytest.mark.parametrize("record", ["{", '{"settings": {"data": "d", "text": {}}}', '{"settings": {"dev_share": 7}}'])
def test_a_damaged_record_is_an_error(tmp_path: Path, record: str) -> None:
    run_of(tmp_path / "run")
    (tmp_path / "run/run.json").write_text(record.replace('"dev_share"', '"data": "d", "dev_share"'))
    with pytest.raises(UserError, match=r"run\.json|--dev-share"):
        as_teacher(asked(tmp_path))


def test_a_student_is_made_of_a_run_alone_and_the_record_and_the_page_say_so(
    workshop: Workshop, tmp_path: Path
) -> None:
    run, data = workshop.teacher().parent, str(workshop.data())
    given = {**QUICK, "teacher": str(run), "out": str(tmp_path / "run"), "epochs": 0.25, "checks": 1}
    del given["max_length"]
    done = distill(**given)
    record = json.loads((done.folder / "run.json").read_text())
    assert (record["settings"]["data"], record["settings"]["dev_share"]) == (data, None)
    assert record["settings"]["max_length"] == QUICK["max_length"]
    assert record["as_teacher"] == {"data": data}
    assert "as in the teacher&#39;s run" in (done.folder / "report.html").read_text()
    assert distill(**given, resume=True).metrics == done.metrics
    assert json.loads((done.folder / "run.json").read_text()) == record
