"""Scores of the answers that language models write: who writes, when, and what is made of it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from workshop import sha256

from contrastill import UserError, distill
from contrastill.data.prompt_batches import collate_prompts
from contrastill.language import CausalLM
from contrastill.results import result_table
from contrastill.settings import LanguageFinetuning
from contrastill.tasks import Language
from contrastill.training.answers import write_answers
from contrastill.training.language import LanguagePlan
from contrastill.training.written import diversity, own_nats

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from tiny_language import llama, problems, save, taught

QUICK: dict[str, Any] = {"batch_size": 16, "checks": 2, "learning_rate": 3e-3, "precision": "fp32", "epochs": 1}
END = 12
ROWS: list[dict[str, Any]] = [
    {"prompt": [1, 10, 2, 11], "answer": [3, END], "key": 0},
    {"prompt": [4, 11], "answer": [END], "key": 1},
    {"prompt": [9, 10, 9, 11, 1], "answer": [8, 1, 7, END], "key": 2},
]
ANSWERS = [[5], [0, 0, 0, END], [8, END]]


def collate(rows: Any) -> dict[str, torch.Tensor]:
    return collate_prompts(rows, END)


def slow(model: Any, prompt: list[int], answer: list[int]) -> tuple[float, int]:
    """One row without padding, a forward a token."""
    nats = 0.0
    for n, token in enumerate(answer):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer[:n]]])).logits[0, -1]
        nats -= float(logits.log_softmax(-1)[token])
    return nats, len(answer)


def test_own_nats_are_those_of_each_row_alone_whatever_the_batch() -> None:
    teacher = llama(16, 2, 3, spread=0.5)
    expected = [slow(teacher, row["prompt"], said) for row, said in zip(ROWS, ANSWERS, strict=True)]
    for size in (1, 2, 64):
        found = own_nats(CausalLM(teacher), ANSWERS, ROWS, collate, size)
        assert found == pytest.approx(np.array(expected), rel=1e-5)
    turned = own_nats(CausalLM(teacher), ANSWERS[::-1], ROWS[::-1], collate, 2)
    assert turned[::-1] == pytest.approx(np.array(expected), rel=1e-5)


def test_own_nats_in_bfloat16_are_near() -> None:
    teacher = llama(16, 2, 3, spread=0.5)
    exact, low = (own_nats(CausalLM(teacher), ANSWERS, ROWS, collate, 64, dtype) for dtype in (None, torch.bfloat16))
    assert np.isfinite(low).all()
    assert low == pytest.approx(exact, rel=0.1, abs=0.1)


def test_ends_are_no_part_of_a_bigram() -> None:
    assert diversity([[1, 2, END], [1, 2]], {END}) == 0.5
    assert diversity([[1, END], [END], []], {END}) is None


def test_no_token_that_the_tokenizer_lacks_is_written() -> None:
    model = llama(16, 1, 0, vocabulary=20, spread=0.5)
    with torch.no_grad():
        model.lm_head.weight[15] = 10 * model.lm_head.weight.abs().max() * model.lm_head.weight[15].sign()
        model.lm_head.weight[16] = -model.lm_head.weight[15]  # one of both is ahead of all others
    task = Language((END,), END, 5, 6)
    free, kept = (write_answers(model, [collate(ROWS)], task, None, words) for words in (None, 13))
    assert max(max(one) for one in free) > END
    assert max(max(one) for one in kept) <= END


# ---- runs


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return taught(tmp_path_factory.mktemp("language"), **QUICK) | {"method": "gkd"}


def log(folder: Path, metric: str) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row[f"eval_{metric}"] for row in rows if f"eval_{metric}" in row]


@pytest.mark.parametrize(("metric", "best"), [("rouge_l", max), ("own_nats", min)])
def test_the_checkpoint_may_be_selected_by_them(metric: str, best: Any, asked: dict[str, Any], tmp_path: Path) -> None:
    run = distill(**asked, select=metric, out=str(tmp_path / "run"))
    scores = log(run.folder, metric)
    assert len(scores) == 3, "the start and two checks"
    assert run.metrics["student"]["dev"]["metrics"][metric] == pytest.approx(best(scores[1:]), abs=1e-6)
    assert run.metrics["metric"] == metric
    kept = json.loads((run.folder / "evidence.json").read_text(encoding="utf-8"))["by_row"]["test"]
    assert kept["metric"] == metric
    ours, theirs = (np.array(kept[who]) for who in ("ours", "theirs"))
    for values, name in ((ours, "student"), (theirs, "teacher")):
        value = values.mean() if values.ndim == 1 else values[:, 0].sum() / values[:, 1].sum()
        assert value == pytest.approx(run.metrics[name]["test"]["metrics"][metric], abs=1e-4)


def test_checks_write_and_judge_only_what_selects(asked: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    calls: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def run(*args: Any, **more: Any) -> Any:
            calls.append(name)
            return function(*args, **more)

        return run

    for name in ("own_nats", "write_answers"):
        function = getattr(sys.modules[LanguagePlan.__module__], name)
        monkeypatch.setattr(f"contrastill.training.language.{name}", counted(name, function))
    once = {"write_answers": 4, "own_nats": 4}  # student and teacher, dev and test
    for select, checks in (
        ("kl", {}),
        ("exact_match", {"write_answers": 3}),
        ("own_nats", {"write_answers": 3, "own_nats": 3}),
    ):
        calls.clear()
        distill(**asked, select=select, out=str(tmp_path / select))
        assert {name: calls.count(name) for name in once} == {name: n + checks.get(name, 0) for name, n in once.items()}


def test_selecting_by_what_is_at_hand_changes_no_weight(asked: dict[str, Any], tmp_path: Path) -> None:
    one = {**asked, "checks": 1}
    made = [distill(**one, select=name, out=str(tmp_path / name)) for name in ("kl", "rouge_l")]
    assert len({sha256(run.model / "model.safetensors") for run in made}) == 1
    assert made[0].metrics["student"]["test"]["metrics"] == made[1].metrics["student"]["test"]["metrics"]


def test_every_page_table_and_card_has_them(asked: dict[str, Any], tmp_path: Path) -> None:
    folders = (save(llama(16, 1, seed, spread=0.5), tmp_path / str(seed)) for seed in (1, 2))
    untaught = dict(zip(("teacher", "start"), folders, strict=True))  # so that they write whatever comes to them
    run = distill(**asked | untaught | {"learning_rate": 1e-6}, out=str(tmp_path / "run"))
    found = {name: run.metrics[name]["test"] for name in ("teacher", "student")}
    for one in found.values():
        assert list(one["intervals"])[-2:] == ["rouge_l", "own_nats"]
        assert 0 < one["metrics"]["distinct_2"] <= 1
        assert np.isfinite(list(one["metrics"].values())).all()
    given = run.metrics["yardsticks"]["test distinct_2"]
    pairs = [row["answer"] for row in problems(100)[80:] if len(row["answer"]) == 2]
    assert given == len(set(pairs)) / len(pairs)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    theirs, ours = (found[name]["metrics"]["distinct_2"] for name in ("teacher", "student"))
    assert f"Distinct bigrams on test: teacher {theirs:.4f}, student {ours:.4f}, given answers {given:.4f}." in page
    assert "ROUGE-L, test" in page
    table = result_table(run.result)
    assert {"test rouge_l", "test own_nats", "test distinct_2"} <= {row[0] for row in table.rows}
    assert "lower is better: kl, perplexity, own_nats" in table.notes
    assert any(note.startswith("distinct_2 of the given answers: dev ") for note in table.notes)
    card = (run.model / "README.md").read_text(encoding="utf-8")
    for name in ("rouge_l", "own_nats", "distinct_2"):
        assert f"| test {name} | " in card
        assert f"- {name}: " in card


def test_answers_of_one_token_have_no_distinct_2_and_no_nan(asked: dict[str, Any], tmp_path: Path) -> None:
    run = distill(**asked, new_tokens=1, out=str(tmp_path / "run"))
    for name in ("teacher", "student"):
        one = run.metrics[name]["test"]
        assert "distinct_2" not in one["metrics"]
        assert one["left_out"] == {"distinct_2": "no answer has two tokens"}
        assert np.isfinite(list(one["metrics"].values())).all()
    assert "Distinct bigrams" not in (run.folder / "report.html").read_text(encoding="utf-8")
    assert "test distinct_2" not in {row[0] for row in result_table(run.result).rows}


@pytest.mark.parametrize("metric", ["kl", "own_nats"])
def test_without_a_teacher_its_scores_select_nothing(metric: str) -> None:
    with pytest.raises(UserError, match=f"--select {metric}: expected a run with a teacher"):
        LanguageFinetuning(model="m", data="d", out="o", select=metric)
