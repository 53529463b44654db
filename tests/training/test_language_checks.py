"""Checks of a language model's run before its first step, and what is told of answers without an end."""

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastill import UserError, distill, finetune
from contrastill.language import CausalLM
from contrastill.settings import LanguageDistillation
from contrastill.training import check_run
from contrastill.training.language import LanguagePlan
from contrastill.training.language_checks import span, without_end
from contrastill.training.language_doubts import unended
from contrastill.training.language_plans import plan_language_distillation
from contrastill.training.trial import trial

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from tiny_language import llama, problems, save, write

END = 12
NEW = 7  # places of a written answer
CPU = torch.device("cpu")
QUICK: dict[str, Any] = {"batch_size": 8, "checks": 1, "precision": "fp32", "epochs": 0.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("language")


@pytest.fixture(scope="module")
def data(place: Path) -> str:
    rows = problems(100)
    return write(place / "data", train=rows[:40], dev=rows[40:60])


@pytest.fixture(scope="module")
def teacher(place: Path) -> str:
    return save(llama(16, 2, 1), place / "teacher")


@pytest.fixture(scope="module")
def learnt(place: Path, data: str) -> str:
    """A language model that knows the data a little."""
    start = save(llama(32, 2, 1), place / "start")
    settings = QUICK | {"epochs": 12, "learning_rate": 3e-3}
    return str(finetune(task="language", model=start, data=data, out=str(place / "learnt"), **settings).model)


def plan(teacher: str, data: str, **more: Any) -> LanguagePlan:
    asked = {"method": "gkd", "student": "1L", "out": "run", "new_tokens": NEW, **QUICK, **more}
    return plan_language_distillation(LanguageDistillation(teacher=teacher, data=data, **asked))


# ---- the time of a step

WRITING = [
    ("gkd", {}, None),
    ("gkd", {"source": "student"}, "distil"),
    ("gkd", {"source": "teacher", "share": 0.1}, "distil"),
    ("gkd", {"source": "student", "share": 0.0}, None),
    ("skd", {}, "distil"),
    ("distillm", {}, "distil"),
    ("distillm", {"source": "given"}, None),
    ("atkd", {}, None),
]


@pytest.mark.parametrize(("method", "given", "written"), WRITING)
def test_the_dearest_step_learns_from_what_the_method_may_write_to_its_last_place(
    method: str, given: dict[str, Any], written: str | None, teacher: str, data: str
) -> None:
    run = plan(teacher, data, method=method, set=given)
    batch = run.batch([0, 1, 2])
    for stage in run.method.stages:
        run.method.stage = stage
        read = run.dearest(batch)
        if stage.name == written:
            assert read["answer_mask"].shape == (3, NEW)
            assert read["answer_mask"].all()
        else:
            assert torch.equal(read["answer"], batch["answer"])
            assert torch.equal(read["answer_mask"], batch["answer_mask"])
        assert float(read["tokens"]) == float(read["answer_mask"].sum())
    assert run.task.ends == (END,)


@pytest.mark.parametrize(("method", "given"), [(method, given) for method, given, written in WRITING if written])
def test_a_trial_changes_no_number_weight_or_text_of_later(
    method: str, given: dict[str, Any], teacher: str, data: str
) -> None:
    run = plan(teacher, data, method=method, set=given)
    batch = run.batch([0, 1])
    state, random = {n: v.clone() for n, v in run.method.state_dict().items()}, torch.get_rng_state()
    text, own = run.method.text(batch)["answer"], run.method.step
    check_run(run)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in run.method.state_dict().items())
    assert torch.equal(run.method.text(batch)["answer"], text)
    assert run.method.step == own


def test_rows_are_tried_by_what_is_read_of_them(teacher: str, data: str) -> None:
    given, written = plan(teacher, data), plan(teacher, data, method="skd")
    assert np.array_equal(given.costs, given.lengths)
    assert np.array_equal(written.costs, written.splits["train"].prompt_lengths + NEW)


def test_texts_are_written_in_a_trial_as_often_as_it_steps(
    teacher: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = plan(teacher, data, method="skd"), []
    dearest = run.method.dearest
    monkeypatch.setattr(run.method, "dearest", lambda batch: asked.append(1) or dearest(batch))
    with trial(run, CPU) as step:
        assert np.isfinite(step([0, 1]))
        assert np.isfinite(step([2, 3]))
    assert len(asked) == 2


def test_the_pace_is_in_the_record_and_in_one_line_of_the_log(
    teacher: str, data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = plan(teacher, data, method="skd", epochs=4)
    with caplog.at_level(logging.INFO, "contrastill"):
        seen = check_run(run).seen("pace")
    assert "answers of 7 tokens, written" in seen
    assert "; 20 steps: at most " in seen
    assert " MB; " in seen
    assert [one.getMessage() for one in caplog.records].count(f"pace: {seen}") == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7199, "120 minutes"), (7200, "2.0 hours")],
)
def test_spans_have_units_of_their_size(seconds: float, words: str) -> None:
    assert span(seconds) == words


# ---- the teacher


def test_a_teacher_worse_than_the_start_is_warned_of_with_the_command_that_helps(
    learnt: str, teacher: str, data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    made = distill(
        method="gkd",
        teacher=teacher,
        student="as-is",
        start=learnt,
        data=data,
        out=str(out),
        **QUICK,
        learning_rate=1e-9,
    )
    record = json.loads((out / "run.json").read_text("utf-8"))
    (said,) = [one for one in record["warnings"] if "worse" in one]
    theirs, ours = (made.metrics[name]["dev"]["metrics"]["perplexity"] for name in ("teacher", "student"))
    assert f"perplexity {theirs:.4g} on the answers of dev, the student's start {ours:.4g}" in said
    command = shlex.split(said.partition("first: ")[2])
    assert command[:6] == ["contrastill", "finetune", "--task", "language", "--model", teacher]
    assert command[6:] == ["--data", data, "--out", "runs/teacher"]
    assert said in " ".join((out / "report.html").read_text("utf-8").replace("&#39;", "'").split())
    assert said in caplog.text
    assert {"pace", "answers end", "teacher helps"} <= {check["name"] for check in record["preflight"]}


@pytest.mark.parametrize(("method", "start"), [("gkd", "itself"), ("gkd", "other"), ("sft", "better")])
def test_no_other_teacher_is_warned_of(method: str, start: str, learnt: str, teacher: str, data: str) -> None:
    theirs, ours = {"itself": (learnt, learnt), "other": (learnt, teacher), "better": (teacher, learnt)}[start]
    run = plan(theirs, data, method=method, student="as-is", start=ours)
    assert run.checks_of_teacher() == []  # nothing is known of the start
    run.score_start(None)  # type: ignore[arg-type]
    assert all(check.ok for check in run.checks_of_teacher())


# ---- answers without an end


def test_given_answers_without_an_end_are_counted_and_warned_of_above_a_share(teacher: str, place: Path) -> None:
    rows = problems(40)
    for name, few, told in (("few", 2, True), ("more", 3, False)):
        cut = [{**row, "answer": "1" * 90} for row in rows[:few]]
        run = plan(teacher, write(place / name, train=[*cut, *rows[few:]], dev=rows))
        assert without_end(run.splits["train"], run.task.ends) == few
        assert without_end(run.splits["dev"], run.task.ends) == 0
        (check,) = run.checks_of_rows()
        assert (check.ok, check.fatal) == (told, False)
        assert f"{few} of 40 training answers have no end token" in check.seen
        assert ("--max-length 64" in check.seen) is not told


def test_written_answers_without_an_end_are_counted() -> None:
    assert unended([[1, 2, END], [END], [1, 2, 3], [END, 1], []], (END, 11)) == 3
    assert unended([], (END,)) == 0


def test_a_student_with_many_more_answers_without_an_end_is_warned_of(
    learnt: str, data: str, place: Path, tmp_path: Path
) -> None:
    model = llama(16, 1, 3)
    made = distill(
        method="gkd",
        teacher=learnt,
        student="as-is",
        start=save(model, place / "endless"),
        data=data,
        out=str(tmp_path / "run"),
        **QUICK,
    )
    counts = {name: made.metrics[name]["dev"]["unended"] for name in ("teacher", "student")}
    assert counts["teacher"] < counts["student"] == 20
    (said,) = [one for one in made.result.warnings if "no end" in one]
    assert f"20 of the 20 answers on dev have no end within 3 tokens, of the teacher's {counts['teacher']}" in said
    assert said.endswith("; try --epochs 34 (it was 0.5)")
    evidence = json.loads((tmp_path / "run/evidence.json").read_text("utf-8"))
    assert (evidence["unended"], evidence["new_tokens"]) == (counts, 3)
    words = f"Answers without an end within 3 tokens: {counts['teacher']} of the teacher's, 20 of the student's."
    assert words in (tmp_path / "run/report.html").read_text("utf-8").replace("&#39;", "'")


# ---- the task's name


def test_a_misspelt_task_is_told_of_language_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tagging, language, or your own.*did you mean 'language'"):
        finetune(task="languag", model="x", data="y", out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_reads_the_texts_of_dev_by_the_teacher_once(
    teacher: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    states = CausalLM.states

    def counted(lm: CausalLM, batch: Any) -> torch.Tensor:
        if lm.depth == 2 and len(batch["prompt"]) == 20:  # the teacher has two layers, the student one
            read.append(int(batch["answer_mask"].sum()))
        return states(lm, batch)

    monkeypatch.setattr(CausalLM, "states", counted)
    asked = {"method": "gkd", "student": "1L", "start": "copy", "new_tokens": NEW, "cache": "none"}
    distill(teacher=teacher, data=data, out=str(tmp_path / "run"), **{**QUICK, **asked, "checks": 3, "batch_size": 8})
    given = read[0]
    assert read.count(given) == 1 + 3, "for the scores, and for the method's own loss at each check"
