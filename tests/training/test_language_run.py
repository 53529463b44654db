"""Runs on language models, from settings to a folder that plain transformers loads."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import stopping_at
from transformers import AutoModelForCausalLM, AutoTokenizer
from workshop import sha256

from contrastill import Interrupted, UserError, distill, finetune
from contrastill.methods import METHODS
from contrastill.settings import LanguageDistillation
from contrastill.tasks import Language
from contrastill.training.language_start import with_start

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from tiny_language import gpt2, llama, problems, save, write

NAMES = [name for name, cls in METHODS.items() if cls.serves(Language)]
QUICK: dict[str, Any] = {"batch_size": 16, "checks": 2, "learning_rate": 3e-3, "precision": "fp32", "epochs": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("language")


@pytest.fixture(scope="module")
def data(place: Path) -> str:
    rows = problems(100)
    return write(place / "data", train=rows[:64] * 2, dev=rows[64:80], test=rows[80:])


@pytest.fixture(scope="module")
def teacher(place: Path, data: str) -> Any:
    start = save(llama(32, 2, 1), place / "large")
    return finetune(task="language", model=start, data=data, out=str(place / "teacher"), **QUICK | {"epochs": 12})


@pytest.fixture(scope="module")
def start(place: Path) -> str:
    return save(llama(16, 1, 2), place / "small")


def settings(teacher: Any, data: str, out: Path, **more: Any) -> dict[str, Any]:
    return {"teacher": str(teacher.model), "data": data, "out": str(out), **QUICK, **more}


def test_a_teacher_learns(teacher: Any) -> None:
    found = teacher.metrics["model"]
    assert found["dev"]["metrics"]["perplexity"] < 6
    assert 0 <= found["test"]["metrics"]["exact_match"] <= 1
    low, high = found["test"]["interval"]
    assert low <= found["test"]["metrics"]["perplexity"] <= high
    assert AutoModelForCausalLM.from_pretrained(teacher.model).config.hidden_size == 32
    assert AutoTokenizer.from_pretrained(teacher.model).eos_token == "<end>"


@pytest.mark.parametrize("name", NAMES)
def test_every_method_runs_from_its_defaults(name: str, teacher: Any, data: str, start: str, tmp_path: Path) -> None:
    made = distill(method=name, student="as-is", start=start, **settings(teacher, data, tmp_path / "run"))
    assert made.metrics["student"]["dev"]["metrics"].keys() >= {"perplexity", "exact_match"}
    assert made.metrics["student"]["dev"]["metrics"]["kl"] > 0
    rows = [json.loads(line) for line in (made.folder / "log.jsonl").read_text().splitlines()]
    assert {term for stage in METHODS[name].stages for term in stage.weights} <= {key for row in rows for key in row}
    assert (made.folder / "report.html").is_file()
    assert "dev" in made._repr_html_()
    assert name in (made.model / "README.md").read_text()
    assert "test kl" in made._repr_html_()
    scored = ["kl", "perplexity", "exact_match", "rouge_l", "own_nats"]
    assert list(made.metrics["student"]["test"]["intervals"]) == scored
    assert "✗ wrong" in (made.folder / "report.html").read_text(encoding="utf-8")


def test_evidence_has_answers_of_both_models_and_the_scores_of_each_row(
    teacher: Any, data: str, start: str, tmp_path: Path
) -> None:
    asked = {"method": "gkd", "student": "as-is", "start": start}
    made = [distill(**settings(teacher, data, tmp_path / name, **asked)) for name in ("one", "two")]
    found, again = (json.loads((run.folder / "evidence.json").read_text(encoding="utf-8")) for run in made)
    assert found == again
    assert (found["kind"], found["split"], found["rows"], len(found["samples"])) == ("language", "dev", 16, 10)
    tokenizer = AutoTokenizer.from_pretrained(teacher.model)
    rows = [json.loads(line) for line in (Path(data) / "dev.jsonl").read_text().splitlines()]
    answers = {read(tokenizer, row["prompt"]): read(tokenizer, row["answer"]) for row in rows}
    for one in found["samples"]:
        assert one["given"] == answers[one["prompt"]]
        assert list(one["answers"]) == ["teacher", "student"]
        for said in one["answers"].values():
            assert said["right"] == (said["text"] == one["given"]) or "differs" in said
    kept = found["by_row"]["test"]
    sums = [sum(column) for column in zip(*kept["ours"], strict=True)]
    assert sums[0] / sums[1] == pytest.approx(made[0].metrics["student"]["test"]["metrics"]["kl"], rel=1e-4)
    assert (kept["metric"], kept["rows"], "theirs" in kept) == ("kl", 20, False)


def read(tokenizer: Any, text: str) -> str:
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]))


def test_evidence_of_a_model_without_a_teacher_has_its_answers_alone(teacher: Any) -> None:
    found = json.loads((teacher.folder / "evidence.json").read_text(encoding="utf-8"))
    assert all(list(one["answers"]) == ["model"] for one in found["samples"])
    assert found["equal_answers"] is None
    assert found["by_row"].keys() == {"dev", "test"}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("sft", {}),
        ("gkd", {"set": {"source": "student", "share": 0.5}}),
        ("skd", {"set": {"top_k": 2, "temperature": 1.0, "top_p": 1.0}}),
        ("atkd", {}),
        ("okd", {}),
        ("distillm", {"set": {"replay": 40, "share": 0.7}}),  # own and replayed texts on either side of the stop
    ],
)
def test_a_run_stopped_and_resumed_ends_as_the_uninterrupted_one(
    name: str, more: dict[str, Any], teacher: Any, data: str, start: str, tmp_path: Path
) -> None:
    asked = {"method": name, "student": "as-is", "start": start, "epochs": 2, "checks": 4, **more}
    whole = distill(**settings(teacher, data, tmp_path / "whole", **asked))
    again = settings(teacher, data, tmp_path / "again", **asked)
    with stopping_at(11), pytest.raises(Interrupted):
        distill(**again)
    resumed = distill(resume=True, **again)
    assert sha256(resumed.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    assert log(resumed) == log(whole)
    if name == "distillm":
        assert {"fresh", "replayed"} <= {key for row in log(whole) for key, value in row.items() if value}


def log(run: Any) -> list[dict[str, Any]]:
    lines = (run.folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if "train_runtime" not in line]


def test_a_student_of_some_layers_starts_as_the_teacher_does(teacher: Any, data: str, tmp_path: Path) -> None:
    made = distill(method="gkd", student="1L", **settings(teacher, data, tmp_path / "run"))
    student = AutoModelForCausalLM.from_pretrained(made.model)
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (1, 32)
    assert made.metrics["student"]["parameters"] < made.metrics["teacher"]["parameters"]


def test_a_narrower_student_inherits(teacher: Any, data: str, tmp_path: Path) -> None:
    asked = {"method": "gkd", "student": "2/16/2/32"}
    kl = {}
    for start in ("inherit", "random"):
        made = distill(start=start, **settings(teacher, data, tmp_path / start, **asked))
        rows = [json.loads(line) for line in (made.folder / "log.jsonl").read_text().splitlines()]
        kl[start] = next(row["eval_kl"] for row in rows if "eval_kl" in row)
        student = AutoModelForCausalLM.from_pretrained(made.model)
        assert (student.config.num_hidden_layers, student.config.hidden_size, student.config.head_dim) == (2, 16, 8)
    assert kl["inherit"] < kl["random"]


@pytest.mark.parametrize(("make", "start"), [(llama, "inherit"), (gpt2, "copy")])
def test_the_start_is_inherit_where_the_layers_are_known_and_has_its_rate(make: Any, start: str) -> None:
    asked = LanguageDistillation(teacher="t", data="d", out="o", student="1L")
    assert (made := with_start(asked, make(16, 2, 1))).start == start
    assert made.learning_rate == 5e-4
    assert with_start(replace(asked, student="as-is", start="x"), make(16, 2, 1)).learning_rate == 1e-4
    assert with_start(replace(asked, learning_rate=1e-3), make(16, 2, 1)).learning_rate == 1e-3
    assert with_start(replace(asked, start="random"), make(16, 2, 1)).start == "random"


def test_a_step_in_parts_learns_the_same(teacher: Any, data: str, start: str, tmp_path: Path) -> None:
    asked = {"method": "gkd", "student": "as-is", "start": start, "set": {"source": "student"}}
    made = [distill(accumulate=parts, **settings(teacher, data, tmp_path / str(parts), **asked)) for parts in (1, 2, 4)]
    weights = [AutoModelForCausalLM.from_pretrained(run.model).state_dict() for run in made]
    for name, value in weights[0].items():
        for other in weights[1:]:
            torch.testing.assert_close(other[name], value, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": "as-is"}, "--start"),
        ({"student": "9L"}, "expected 1 to 2 layers"),
        ({"student": "1/8/2/16", "start": "copy"}, "--start inherit or random"),
        ({"student": "1/8/3/16", "start": "inherit"}, "not a multiple"),
        ({"student": "1/64/4/16", "start": "inherit"}, "hidden_size of at most 32"),
        ({"student": "static-8"}, "8L"),
        ({"method": "kd"}, "is a language model; .*--method gkd"),
        ({"student": "1L", "new_tokens": 63}, "--new-tokens"),
        ({"student": "1L", "max_length": 3}, "prompt"),
        ({"student": "1L", "set": {"beta": 2}}, "beta"),
        ({"student": "1L", "method": "atkd", "accumulate": 2}, "--accumulate"),
    ],
)
def test_what_cannot_be_is_refused_before_work(
    changes: dict[str, Any], words: str, teacher: Any, data: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        distill(**settings(teacher, data, tmp_path / "run", **{"method": "gkd", **changes}))
    assert not (tmp_path / "run" / "student").exists()


def test_another_tokenizer_is_refused(teacher: Any, data: str, start: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save(llama(16, 1, 2), other)
    found = json.loads((other / "tokenizer.json").read_text())
    words = found["model"]["vocab"]
    words["0"], words["1"] = words["1"], words["0"]
    (other / "tokenizer.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match="one tokenizer"):
        distill(method="gkd", student="as-is", start=str(other), **settings(teacher, data, tmp_path / "run"))
