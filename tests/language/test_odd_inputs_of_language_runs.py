"""Odd data, tokenizers and models: each is refused before training with a message that helps, or nothing of it is
lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language import llama, problems, tokenizer
from typer.testing import CliRunner

from contrastill import distill
from contrastill.cli import app
from contrastill.errors import CheckFailed
from contrastill.methods.language import LanguageMethod
from contrastill.sampling import Decoding
from contrastill.settings import LanguageFinetuning
from contrastill.training import check_run
from contrastill.training.language import LanguagePlan
from contrastill.training.language_plans import plan_language_finetuning

Rows = list[dict[str, Any]]
GOOD = problems(40)
PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"  # a template that writes no end


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A folder of a language model, by what is odd about it."""
    place = tmp_path_factory.mktemp("models")

    def saved(odd: str) -> str:
        folder, model, reader = place / odd, llama(16, 2, 1), tokenizer()
        if odd == "no eos":
            reader.eos_token = None
        if odd == "no pad":
            reader.pad_token = None
        if odd == "template":
            reader.chat_template = PLAIN
        if odd == "small head":
            model.config.pad_token_id = None
            model.resize_token_embeddings(8)
        if odd == "nan":
            model.model.layers[0].mlp.up_proj.weight.data[0, 0] = torch.nan
        if not folder.is_dir():
            model.save_pretrained(folder)
            reader.save_pretrained(folder)
        return str(folder)

    return saved


def jsonl(folder: Path, rows: Rows, name: str = "train") -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def csv(folder: Path, rows: list[tuple[Any, Any]]) -> str:
    file = folder / "train.csv"
    file.write_text("prompt,answer\n" + "".join(f"{prompt},{answer}\n" for prompt, answer in rows), encoding="utf-8")
    return str(file)


def row(prompt: Any = "1+1=", answer: Any = "2") -> dict[str, Any]:
    return {"prompt": prompt, "answer": answer}


def talk(one: dict[str, Any], role: str = "user") -> dict[str, Any]:
    asked = {"role": role, "content": one["prompt"]}
    return {"messages": [asked, {"role": "assistant", "content": one["answer"]}]}


REFUSED: dict[str, tuple[Rows, list[str], list[str]]] = {
    "no row has an answer": ([row(answer=None)] * 9, [], ["in at least 95%", "no answer", "correct or remove"]),
    "an empty prompt": ([*GOOD, row("")], [], ["at least one token of each prompt", "fill them in"]),
    "a prompt of 10,000 tokens": ([*GOOD, row("1" * 10_000)], [], ["up to 10,000", "a prompt is never cut"]),
    "a prompt that fills the window": ([*GOOD, row("1" * 64)], [], ["at most 63 tokens", "raise --max-length"]),
    "a prompt that leaves one place": ([*GOOD, row("1" * 63)], [], ["63 + 3", "lower --new-tokens"]),
    "a number as an answer": ([*GOOD, row(answer=2)], [], ["got 2 on line 41", "write it as a text"]),
    "a list as an answer": ([*GOOD, row(answer=["2"])], [], ["got ['2'] on line 41", "write it as a text"]),
    "a list as a prompt": ([*GOOD, row(["1+1="])], [], ["column 'prompt'", "write it as a text"]),
    "an object as an answer": ([*GOOD, row(answer={"a": "2"})], [], ["on line 41", "write it as a text"]),
    "an unknown role": ([talk(one, "robot") for one in GOOD], [], ["none of system", "correct or remove"]),
    "no chat template": ([talk(one) for one in GOOD], [], ["expected a tokenizer with a chat template"]),
    "mixed chat and plain": ([*GOOD, *map(talk, GOOD)], [], ["'prompt', 'answer', 'messages'", "--messages COLUMN"]),
    "one row": (GOOD[:1], [], ["at least two different prompts", "got one in 1 row;", "--dev-share 0"]),
    "one prompt in all rows": ([row(answer=str(n)) for n in range(9)], [], ["got one in 9 rows", "--dev FILE"]),
    "a new answer beyond the window": (GOOD, ["--new-tokens", "64"], ["64 tokens together", "lower --new-tokens"]),
    "no end token": (GOOD, ["--model", "no eos"], ["with an end token", "set tokenizer.eos_token"]),
    "no padding token": (GOOD, ["--model", "no pad"], ["no padding token", "set tokenizer.pad_token"]),
    "a vocabulary larger than the head": (GOOD, ["--model", "small head"], ["id 12, smallest vocabulary 8"]),
    "NaN among the weights": (GOOD, ["--model", "nan"], ["not finite (NaN", "train it again"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_training(name: str, models: Callable[[str], str], tmp_path: Path) -> None:
    rows, more, words = REFUSED[name]
    options = {"--model": "sound", **dict(zip(more[::2], more[1::2], strict=True))}
    options |= {"--model": models(options["--model"]), "--data": jsonl(tmp_path, rows), "--out": str(tmp_path / "run")}
    found = invoke("finetune", "--task", "language", *(word for pair in options.items() for word in pair))
    assert found.exit_code == 2, found.output
    assert all(word in " ".join(found.output.split()) for word in words), found.output
    assert not (tmp_path / "run/model").exists()


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "2000", "TERM": "dumb"})


@pytest.mark.parametrize(
    ("rows", "words"), [([], "empty file"), ([row(answer=None)], "no answer"), ([{"text": "1"}], "column 'prompt'")]
)
def test_dev_without_rows_is_refused(rows: Rows, words: str, models: Callable[[str], str], tmp_path: Path) -> None:
    dev, out = jsonl(tmp_path, rows, "dev"), str(tmp_path / "run")
    data = jsonl(tmp_path, GOOD)
    found = invoke(
        "finetune", "--task", "language", "--model", models("sound"), "--data", data, "--dev", dev, "--out", out
    )
    assert found.exit_code == 2, found.output
    assert words in found.output


def test_a_teacher_with_nan_weights_is_refused(models: Callable[[str], str], tmp_path: Path) -> None:
    words = ("--method", "gkd", "--teacher", models("nan"), "--student", "1L")
    found = invoke("distill", *words, "--data", jsonl(tmp_path, GOOD), "--out", str(tmp_path / "run"))
    assert found.exit_code == 2, found.output
    assert "not finite (NaN" in found.output


def plan(source: str, out: Path, model: str, **more: Any) -> LanguagePlan:
    asked = {"batch_size": 8, "precision": "fp32", **more}
    return plan_language_finetuning(LanguageFinetuning(model=model, data=source, out=str(out), **asked))


SURVIVED: dict[str, tuple[Rows, str]] = {  # rows, and the words of what was left out or remarked
    "a missing answer": ([*GOOD, row(answer=None)], "left out 1 row with no answer, the first on line 41"),
    "no such key": ([*GOOD, {"prompt": "1+1="}], "left out 1 row with no answer"),
    "NaN as an answer": ([*GOOD, row(answer=float("nan"))], "left out 1 row with no answer"),
    "NaN as a prompt": ([*GOOD, row(float("nan"))], "left out 1 row with no prompt"),
    "empty answers": ([{**one, "answer": ""} for one in GOOD], "40 rows with an empty answer, kept"),
    "white space as answers": ([{**one, "answer": " \t"} for one in GOOD], ""),
    "answers of one token": ([{**one, "answer": "1"} for one in GOOD], ""),
    "other answers to a prompt": ([*GOOD, *({**one, "answer": "7"} for one in GOOD)], ""),
}


@pytest.mark.parametrize("name", SURVIVED)
def test_survived_with_nothing_lost(name: str, models: Callable[[str], str], tmp_path: Path) -> None:
    rows, words = SURVIVED[name]
    made = plan(jsonl(tmp_path, rows), tmp_path / "run", models("sound"))
    assert words in made.describe()["decisions"].get("rows", "")
    survives(made, len(rows) - ("left out 1" in words))


def survives(made: LanguagePlan, rows: int) -> None:
    assert sum(len(split.rows) for split in made.splits.values()) == rows
    report = check_run(made)
    assert not report.failed, report.checks
    assert all(len(one["answer"]) for split in made.splits.values() for one in split.rows[:])


def test_csv_cells_are_texts_whatever_they_look_like(models: Callable[[str], str], tmp_path: Path) -> None:
    odd = [("1+1=", "NaN"), ("1+2=", ""), ("1+3=", 4), ("1+4=", "5.0"), ("1+5=", "None")]
    made = plan(csv(tmp_path, [*((one["prompt"], one["answer"]) for one in GOOD), *odd]), tmp_path, models("sound"))
    answers = {str(one["answer"]) for split in made.data.splits.values() for one in split}
    assert {"NaN", "", "4", "5.0", "None"} <= answers
    survives(made, 45)


def test_one_row_is_learnt_from_where_none_is_to_be_held_out(models: Callable[[str], str], tmp_path: Path) -> None:
    survives(plan(jsonl(tmp_path, GOOD[:1]), tmp_path / "run", models("sound"), dev_share=0.0), 1)


def test_an_answer_beyond_the_window_is_cut_and_told_of(models: Callable[[str], str], tmp_path: Path) -> None:
    rows = [*GOOD, row(answer="1" * 100)]
    made = plan(jsonl(tmp_path, rows), tmp_path / "run", models("sound"), dev=jsonl(tmp_path, GOOD, "dev"))
    survives(made, 81)
    assert (made.lengths.max(), made.cut_share) == (64, 1 / 41)
    assert "2.4% of the texts are cut" in made.describe()["decisions"]["length"]
    assert check_run(made).seen("answers end") == "1 of 41 training answers have no end token"


def test_a_template_without_an_end_learns_the_tokenizer_s(models: Callable[[str], str], tmp_path: Path) -> None:
    rows = [*map(talk, GOOD), talk(GOOD[0], "robot")]
    made = plan(jsonl(tmp_path, rows), tmp_path / "run", models("template"))
    survives(made, 40)
    assert {one["answer"][-1] for one in made.splits["train"].rows[:]} == {12}


@pytest.mark.parametrize(("method", "given"), [("sft", {}), ("gkd", {"source": "student"}), ("skd", {})])
def test_a_student_that_diverges_ends_the_run_and_loses_no_checkpoint(
    method: str, given: dict[str, Any], models: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jsonl(tmp_path, GOOD)
    asked = {"method": method, "teacher": models("sound"), "student": "1L", "data": data, "out": str(tmp_path / "run")}
    asked |= {"batch_size": 8, "checks": 3, "epochs": 2, "precision": "fp32", "set": given}
    begin = LanguageMethod.set_stage

    def diverge(self: Any, step: int, total: int) -> Any:
        if step == 4:
            with torch.no_grad():
                next(self.student.model.parameters()).fill_(torch.nan)
        return begin(self, step, total)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageMethod, "set_stage", diverge)
        with pytest.raises(CheckFailed, match=r"no longer finite at step 5.*lower the learning rate"):
            distill(**asked)
    assert (tmp_path / "run/checkpoints/checkpoint-4").is_dir()
    assert distill(**asked, resume=True).metrics["student"]["dev"]["metrics"]["perplexity"] > 1


def test_logits_that_are_no_numbers_give_a_token_of_the_vocabulary() -> None:
    logits = torch.tensor([[torch.nan, 0.0, 1.0], [0.0, torch.inf, 1.0], [3.0, 0.0, -torch.inf]])
    for decoding in (Decoding(), Decoding(0.5, 0.5), Decoding(0)):
        tokens = decoding.choose(logits, torch.tensor([0.0, 0.5, 0.25]))
        assert ((tokens >= 0) & (tokens < 3)).all()
        assert int(tokens[2]) == 0
