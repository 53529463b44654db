"""Runs on rows that are passed as objects: trained, recorded, resumed, distilled, scored and answered."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from workshop import QUICK, QUICK_TEACHER, Workshop, single_rows

from contrastill import UserError, distill, evaluate, finetune, predict
from contrastill.cli.options import settings_of
from contrastill.settings import Finetuning

ROWS = single_rows(40, 0)


@pytest.fixture(scope="module")
def given(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    short = {**QUICK_TEACHER, "epochs": 0.5, "checks": 1}
    out = tmp_path_factory.mktemp("memory") / "run"
    return {**short, "model": str(workshop.encoder()), "out": str(out), "dev": ROWS[:9], "dev_share": 0.2}


@pytest.fixture(scope="module")
def run(given: dict[str, Any]) -> Any:
    return finetune(**given, data=pd.DataFrame(ROWS))


def test_a_run_is_that_of_the_file_and_its_record_has_a_fingerprint(
    run: Any, given: dict[str, Any], tmp_path: Path
) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert record["settings"]["data"].startswith("DataFrame of 40 rows passed in Python, sha256 ")
    assert record["settings"]["dev"].startswith("list of 9 rows passed in Python, sha256 ")
    assert ROWS[20]["text"] not in json.dumps(record["settings"])
    pd.DataFrame(ROWS).to_csv(tmp_path / "d.csv", index=False)
    pd.DataFrame(ROWS[:9]).to_csv(tmp_path / "dev.csv", index=False)
    same = finetune(
        **{**given, "out": str(tmp_path / "run"), "dev": str(tmp_path / "dev.csv")}, data=str(tmp_path / "d.csv")
    )
    assert same.metrics["model"]["dev"] == run.metrics["model"]["dev"]
    assert json.loads((same.folder / "run.json").read_text())["data_fingerprint"] == record["data_fingerprint"]


def test_it_resumes_with_the_same_rows_alone(run: Any, given: dict[str, Any]) -> None:
    assert finetune(**given, data=pd.DataFrame(ROWS), resume=True).metrics == run.metrics
    with pytest.raises(UserError, match=r"cannot resume .* with other settings: it was run with data = 'DataFrame of"):
        finetune(**given, data=pd.DataFrame(ROWS[:-1]), resume=True)


def test_the_command_line_says_that_the_rows_are_not_stored(run: Any, tmp_path: Path) -> None:
    asked = settings_of(Finetuning, {"out": str(tmp_path / "new")}, from_=run.folder / "run.json")
    with pytest.raises(UserError, match="these rows are not stored; pass the same ones in Python with resume=True"):
        finetune(**vars(asked))


def test_a_student_takes_the_split_of_the_same_rows_and_wants_them_again(run: Any, tmp_path: Path) -> None:
    asked = {**QUICK, "teacher": str(run.folder), "epochs": 0.25, "checks": 1, "force": True}
    with pytest.raises(UserError, match="these rows are not stored"):
        distill(**asked, out=str(tmp_path / "none"))
    done = distill(**asked, out=str(tmp_path / "run"), data=pd.DataFrame(ROWS), dev=ROWS[:9])
    record = json.loads((done.folder / "run.json").read_text())
    assert record["as_teacher"] == {"dev_share": 0.2}
    assert record["settings"]["dev_share"] == 0.2


def test_scores_and_answers_of_rows_are_those_of_the_file(run: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS).assign(id=range(40))
    frame.to_csv(tmp_path / "d.csv", index=False)
    model = str(run.model)
    assert evaluate(model=model, data=frame[["text", "label"]], dev_share=0)["rows"] == 40
    made = predict(model=model, data=frame, probabilities=True)
    predict(model=model, data=str(tmp_path / "d.csv"), probabilities=True, out=str(tmp_path / "a.jsonl"))
    theirs = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert made.answers is not None
    assert [row["label"] for row in made.answers] == [row["label"] for row in theirs]
    assert [row["id"] for row in made.answers] == list(range(40))
    assert "answers" not in made.to_json()
    texts = predict(model=model, data=list(frame["text"][:3])).answers
    assert texts is not None
    assert [row["label"] for row in texts] == [row["label"] for row in theirs[:3]]
    filed = predict(model=model, data=frame, out=str(tmp_path / "b.csv"))
    assert (filed.answers, len((tmp_path / "b.csv").read_text().splitlines())) == (None, 41)
