"""A user's own method and task train without a fork: by class from Python, by name from the command line."""

import json
from pathlib import Path
from textwrap import dedent

import pytest
from torch import Tensor
from typer.testing import CliRunner
from workshop import QUICK_TEACHER, Workshop

from contrastill import METHODS, UserError, distill, finetune
from contrastill.cli import app
from contrastill.methods import Method, Stage
from contrastill.registry import class_of
from contrastill.tasks import TASKS, Classification

OWN = '''
"""Somebody's own."""
from contrastill.methods import KD
from contrastill.tasks import Classification


class Gentle(KD):
    """KD whose soft labels weigh little."""

    name = "gentle"

    def losses(self, student, teacher, batch):
        terms = super().losses(student, teacher, batch)
        return {**terms, "kd": 0.01 * terms["kd"]}


class Focal(Classification):
    """Classification whose label loss is small where the answer is sure."""

    def hard(self, student, labels, mask):
        errors, known = super().hard(student, labels, mask)
        return (1 - (-errors).exp()) ** 2 * errors, known
'''


class Halved(Method):
    """Half the label loss, by a class that no module offers."""

    name = "halved"
    uses_teacher = False
    stages = (Stage("all", {"half": 1.0}),)

    def losses(self, student, teacher, batch) -> dict[str, Tensor]:
        return {"half": self.hard(student, batch) / 2}


class Weighted(Classification):
    """Twice the label loss."""

    def hard(self, student, labels, mask):
        errors, known = super().hard(student, labels, mask)
        return 2 * errors, known


def losses_of(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_things.py").write_text(dedent(OWN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_things", raising=False)
    return tmp_path


def test_a_class_trains_and_its_name_is_in_the_record(workshop: Workshop, tmp_path: Path) -> None:
    run = workshop.distill(tmp_path / "run", method=Halved, epochs=1, checks=1)
    record = json.loads((run.folder / "run.json").read_text())
    assert record["settings"]["method"] == f"{__name__}:Halved"
    assert [stage["name"] for stage in record["stages"]] == ["all"]
    assert "half" in (run.folder / "log.jsonl").read_text()
    again = distill(resume=True, **record["settings"])
    assert again.metrics == run.metrics


def test_a_class_of_the_registry_is_recorded_by_its_name(workshop: Workshop, tmp_path: Path) -> None:
    run = workshop.distill(tmp_path / "run", method=METHODS["kd"], epochs=1, checks=1)
    assert json.loads((run.folder / "run.json").read_text())["settings"]["method"] == "kd"


def test_the_command_line_takes_a_method_by_module_and_class(workshop: Workshop, own_module: Path) -> None:
    given = {**workshop.settings(own_module / "run"), "method": "own_things:Gentle", "epochs": 1, "checks": 1}
    flags = {key: f"--{key.replace('_', '-')}" for key in given}
    words = [
        word for key, value in given.items() for word in ([flags[key]] if value is True else [flags[key], str(value)])
    ]
    result = CliRunner().invoke(app, ["distill", *words, "--set", "temperature=4"])
    assert result.exit_code == 0, result.output
    record = json.loads((own_module / "run" / "run.json").read_text())
    assert (record["settings"]["method"], record["status"]) == ("own_things:Gentle", "finished")
    assert "own_things:Gentle" in (own_module / "run" / "student" / "README.md").read_text()


@pytest.mark.parametrize("given", ["own_things:Focal", Weighted], ids=["by name", "by class"])
def test_an_own_task_trains_with_its_loss(workshop: Workshop, own_module: Path, given: str | type) -> None:
    settings = {"model": str(workshop.encoder()), "data": str(workshop.data()), **QUICK_TEACHER, "epochs": 1}
    plain = finetune(out=str(own_module / "plain"), **settings)
    own = finetune(out=str(own_module / "own"), task=given, **settings)
    first, other = losses_of(plain.folder)[0], losses_of(own.folder)[0]
    assert other == pytest.approx(2 * first, rel=1e-5) if given is Weighted else other < 0.9 * first
    assert json.loads((own.folder / "run.json").read_text())["settings"]["task"].endswith(("Focal", "Weighted"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lrc_brt", r"expected a method of lrc_bert, .* got 'lrc_brt'; did you mean 'lrc_bert'\?"),
        ("nowhere_to_be_found:Mine", "No module named 'nowhere_to_be_found'"),
        ("own_things:Harsh", "has no attribute 'Harsh'"),
        ("own_things:Focal", "expected a subclass of Method"),
        (":Mine", "package.module:Class"),
        ("own_things:", "package.module:Class"),
    ],
)
def test_a_name_that_leads_to_no_method_is_refused(own_module: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        class_of(name, METHODS, Method, "method")


def test_a_task_is_no_method(own_module: Path) -> None:
    with pytest.raises(UserError, match="expected a subclass of Classification"):
        class_of("own_things:Gentle", TASKS, Classification, "task")
