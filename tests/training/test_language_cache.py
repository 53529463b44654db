"""Runs on language models whose teacher is stored, beside the same runs with the live one."""

import json
import logging
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_resume import stopping_at
from workshop import sha256

from contrastill import Interrupted, UserError, distill
from contrastill.teachers import FrozenLM, entries, verify

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from tiny_language import llama, problems, save, write

QUICK: dict[str, Any] = {"batch_size": 16, "checks": 2, "learning_rate": 3e-3, "precision": "fp32", "epochs": 2}
ROWS = 32


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("language-cache")


@pytest.fixture(scope="module")
def asked(place: Path) -> dict[str, Any]:
    rows = problems(60)
    return {
        "teacher": save(llama(24, 2, 1, spread=0.3), place / "teacher"),
        "start": save(llama(16, 1, 2), place / "small"),
        "student": "as-is",
        "method": "gkd",
        "data": write(place / "data", train=rows[:ROWS] * 2, dev=rows[ROWS:48]),
        **QUICK,
    }


def lines(run: Any) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    return [row for row in found if "train_runtime" not in row]


def decided(run: Any) -> str:
    said: str = json.loads((run.folder / "run.json").read_text())["data"]["decisions"]["teacher outputs"]
    return said


def losses(run: Any) -> list[float]:
    return [row[name] for row in lines(run) for name in ("loss", "eval_kl") if name in row]


@pytest.mark.parametrize(
    ("name", "more"), [("gkd", {"beta": 0.3}), ("atkd", {"hard": 0.3}), ("distillm", {"source": "given"})]
)
def test_all_words_are_the_run_with_the_live_teacher(
    name: str, more: dict[str, Any], asked: dict[str, Any], tmp_path: Path
) -> None:
    given = {**asked, "method": name, "set": more}
    live = distill(**given, out=str(tmp_path / "live"), cache="none")
    exact = {"top_k": 0, "cache_dtype": "float32", "cache": str(tmp_path / "cache")}
    stored = distill(**given, out=str(tmp_path / "stored"), **exact)
    assert losses(stored) == pytest.approx(losses(live), rel=1e-4)
    half = distill(**given, out=str(tmp_path / "half"), top_k=0, cache=str(tmp_path / "cache"))
    assert losses(half) == pytest.approx(losses(live), rel=1e-2)
    assert "all 13 words stored for each answer token; 0.00% of the teacher's mass lies outside" in decided(stored)
    assert decided(live) == "run in every step: --cache none"
    assert "teacher_forwards" not in live.metrics


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(
    ("name", "more"), [("gkd", {}), ("gkd", {"beta": 1}), ("atkd", {}), ("distillm", {"source": "given"})]
)
def test_stored_words_are_learnt_in_bfloat16(
    name: str, more: dict[str, Any], stored: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    """On a CPU autocast puts no float16 together (torch.cat)."""
    given = {**asked, "method": name, "set": more, "epochs": 1, "checks": 1, "cache": str(tmp_path / "cache")}
    run = distill(**given | {"precision": "bf16"}, cache_dtype=stored, top_k=3, out=str(tmp_path / "run"))
    assert losses(run)
    assert all(math.isfinite(loss) for loss in losses(run))


def test_a_second_run_reads_all_and_the_commands_know_the_entry(
    asked: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    with caplog.at_level(logging.INFO):
        first = distill(**asked, out=str(tmp_path / "first"), cache=str(cache), top_k=3)
    assert first.metrics["teacher_forwards"] == ROWS + 16  # the training rows come twice
    assert "the 3 likeliest of 13 words, 14 bytes a token" in caplog.text
    assert "answer tokens that are not stored yet" in caplog.text
    share = float(decided(first).split("; ")[1].split("%")[0])
    assert 0 < share < 100
    second = distill(**asked, out=str(tmp_path / "second"), cache=str(cache), top_k=3)
    assert second.metrics["teacher_forwards"] == 0
    assert losses(second) == losses(first)
    other = distill(**{**asked, "method": "atkd"}, out=str(tmp_path / "other"), cache=str(cache), top_k=3)
    assert other.metrics["teacher_forwards"] == 0
    (entry,) = entries(cache)
    assert (entry.name, entry.facts.field, entry.texts) == (asked["teacher"], "likeliest-3-of-13-float16", ROWS + 16)
    assert all(whole for _, whole in verify(cache))
    fewer = distill(**asked, out=str(tmp_path / "fewer"), cache=str(cache), top_k=2)
    assert fewer.metrics["teacher_forwards"] == ROWS + 16


def test_a_run_resumed_ends_as_the_uninterrupted_one(asked: dict[str, Any], tmp_path: Path) -> None:
    given = {**asked, "checks": 4, "top_k": 2}
    whole = distill(**given, out=str(tmp_path / "whole"), cache=str(tmp_path / "one"))
    again = {**given, "out": str(tmp_path / "again"), "cache": str(tmp_path / "two")}
    with stopping_at(5), pytest.raises(Interrupted):
        distill(**again)
    resumed = distill(resume=True, **again)
    assert resumed.metrics["teacher_forwards"] == whole.metrics["teacher_forwards"] == ROWS + 16
    assert sha256(resumed.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    assert lines(resumed) == lines(whole)


def test_no_teacher_runs_in_training_once_its_words_are_stored(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    tokens = FrozenLM.tokens
    monkeypatch.setattr(FrozenLM, "tokens", lambda self, batch: seen.append(len(batch["key"])) or tokens(self, batch))
    distill(**asked, out=str(tmp_path / "first"), cache=str(tmp_path / "cache"))
    first = sum(seen)
    seen.clear()
    distill(**asked, out=str(tmp_path / "second"), cache=str(tmp_path / "cache"))
    assert first == ROWS + 16
    assert not seen  # scores have the whole distribution of the dev rows, from a teacher that recalls them


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "skd"}, "'skd', with these settings, asks it what no cache holds"),
        ({"set": {"source": "student"}}, "'gkd', with these settings"),
        ({"epochs": 1}, "no answer is learnt from twice"),
        ({"cache": "none"}, "--cache none"),
    ],
)
def test_a_run_that_would_gain_nothing_says_why_it_stores_nothing(
    changes: dict[str, Any], words: str, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTRASTILL_CACHE", str(tmp_path / "cache"))
    made = distill(**{**asked, **changes}, out=str(tmp_path / "run"))
    assert words in decided(made)
    assert not list(entries(tmp_path / "cache"))


def test_a_cache_that_is_asked_for_is_filled_for_one_pass_too(asked: dict[str, Any], tmp_path: Path) -> None:
    made = distill(**{**asked, "epochs": 1}, out=str(tmp_path / "run"), cache=str(tmp_path / "cache"))
    assert made.metrics["teacher_forwards"] == ROWS + 16


def test_without_room_the_teacher_runs_live_and_a_cache_asked_for_is_refused(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, root = shutil.disk_usage, tmp_path / "cache"
    root.mkdir()
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: SimpleNamespace(free=10) if Path(path).is_relative_to(root) else real(path),
    )
    with pytest.raises(UserError, match=r"no room.*--top-k.*--cache none"):
        distill(**asked, out=str(tmp_path / "asked"), cache=str(root))
    monkeypatch.setenv("CONTRASTILL_CACHE", str(root))
    with caplog.at_level(logging.WARNING):
        made = distill(**asked, out=str(tmp_path / "run"))
    assert "the teacher runs in every step: its likeliest words" in caplog.text
    assert "a lower --top-k takes less" in decided(made)
    assert not list(entries(root))


def test_a_folder_that_cannot_be_written_to(asked: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/cache.*--cache none"):
        distill(**asked, out=str(tmp_path / "asked"), cache=str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("CONTRASTILL_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot write" in decided(distill(**asked, out=str(tmp_path / "run")))


def test_int8_is_refused(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="float16, bfloat16, float32"):
        distill(**asked, out=str(tmp_path / "run"), cache_dtype="int8")
