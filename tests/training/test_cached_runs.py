"""Runs whose teacher is stored, against runs whose teacher is live."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from workshop import Workshop, sha256, snapshot

from contrastill import Distillation, UserError
from contrastill.methods import METHODS, method_settings
from contrastill.tasks import Classification
from contrastill.teachers.folder import entries
from contrastill.training import plan_distillation

COMPARED = ("lrc_bert", "kd", "pkd", "tinybert", "minilm", "rrd_task")
TEXTS = {"train": 64, "dev": 30, "test": 36}
TEACHER_WIDTH = 32  # the student's is 16
ALIKE = 3e-5  # of losses: see `test_a_run_from_the_cache_is_the_run_with_the_live_teacher`
RATE = 5e-4  # at the tests' usual rate 16 steps make ten times as much of a rounding, on some processors fifteen


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher runs alike on any machine."""
    monkeypatch.setattr("contrastill.teachers.stored.bf16_pays", lambda: False)


@pytest.fixture(scope="module")
def live(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """The run of a method without a cache, made once."""
    made: dict[str, Any] = {}

    def run(method: str) -> Any:
        if method not in made:
            folder = tmp_path_factory.mktemp("live") / method
            made[method] = workshop.distill(folder, method=method, cache="none", learning_rate=RATE)
        return made[method]

    return run


def losses(folder: Path) -> list[dict[str, float]]:
    """Of each logged step, its number and everything logged that is a loss or a dev score."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    apart = ("runtime", "seconds", "per_second", "grad_norm")
    return [
        {name: value for name, value in row.items() if isinstance(value, int | float) and not name.endswith(apart)}
        for row in rows
    ]


def assert_same_run(one: Any, other: Any, rel: float) -> None:
    """Everything logged differs by `rel` at most in each step; a quarter of it in the first, where both students are
    the same."""
    ours, theirs = losses(one.folder), losses(other.folder)
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    steps = [(mine, live) for mine, live in zip(ours, theirs, strict=True) if "loss" in mine]
    assert len(steps) == 16
    scores = {name for row in ours for name in row if name.startswith("eval_")}
    assert scores
    for mine, live in zip(ours, theirs, strict=True):
        for name, value in mine.items():
            # one of dev's 30 texts may lie on the border of two classes
            tolerance = {"abs": 0.05} if name in scores else {"rel": rel, "abs": rel / 100}
            assert value == pytest.approx(live[name], **tolerance), (name, live.get("step"))
    mine, live = steps[0]
    for name in mine:
        assert abs(mine[name] - live[name]) <= rel / 4 * max(abs(live[name]), 0.01), name


@pytest.fixture
def teacher_forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each forward pass of a teacher, whoever asks; two short texts are read when one is loaded."""
    seen: list[int] = []
    monkeypatch.setattr("contrastill.loading.models.check_reads", lambda *_: None)
    before = transformers.BertModel.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.config.hidden_size == TEACHER_WIDTH:
            seen.append(1)
        return before(self, *args, **kwargs)

    monkeypatch.setattr(transformers.BertModel, "forward", forward)
    return seen


@pytest.mark.parametrize("stored", ["float32", "float16", "int8"])
@pytest.mark.parametrize(
    "method", [name for name, cls in METHODS.items() if cls.uses_teacher and cls.serves(Classification)]
)
def test_every_method_computes_in_bfloat16_from_stored_outputs(
    workshop: Workshop, tmp_path: Path, method: str, stored: str
) -> None:
    """On a CPU autocast puts no float16 together (torch.cat, torch.stack)."""
    asked: dict[str, Any] = {"method": method, "cache": str(tmp_path / "cache"), "cache_dtype": stored}
    if "queue" in method_settings(method):
        asked["set"] = {"queue": 16}
    plan = plan_distillation(Distillation(**workshop.settings(tmp_path / "unused", **asked)))
    plan.use_cache()
    plan.fit_bridges()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for first in (0, 12):
            found = plan.method(**plan.batch(range(first, first + 12)))
    assert all(value.isfinite() for value in found.values())


@pytest.mark.parametrize("method", COMPARED)
def test_a_run_from_the_cache_is_the_run_with_the_live_teacher(
    workshop: Workshop, tmp_path: Path, live: Callable[[str], Any], method: str, teacher_forwards: list[int]
) -> None:
    # Not to the bit: a text's outputs are computed in a batch of texts of its length, live in the step's batch, and
    # sums of floats in another order differ in their last bits; 16 steps of Adam make 1e-7 of a gradient more of it.
    settings = {"method": method, "cache": str(tmp_path / "cache"), "cache_dtype": "float32", "learning_rate": RATE}
    first = workshop.distill(tmp_path / "first", **settings)
    assert_same_run(first, live(method), ALIKE)
    assert first.metrics["teacher_forwards"] == sum(TEXTS.values())
    assert "teacher_forwards" not in live(method).metrics
    for split in ("dev", "test"):
        assert first.metrics["teacher"][split] == live(method).metrics["teacher"][split]

    teacher_forwards.clear()
    second = workshop.distill(tmp_path / "second", **settings)
    assert teacher_forwards == []  # neither in training, nor for scores, nor for the student's start
    assert second.metrics["teacher_forwards"] == 0
    assert sha256(second.model / "model.safetensors") == sha256(first.model / "model.safetensors")
    assert {k: v for k, v in second.metrics.items() if k not in ("seconds", "teacher_forwards")} == {
        k: v for k, v in first.metrics.items() if k not in ("seconds", "teacher_forwards")
    }


def test_labels_alone_need_no_outputs_of_the_teacher_but_its_scores_are_stored(
    workshop: Workshop, tmp_path: Path, teacher_forwards: list[int]
) -> None:
    settings = {"method": "finetune", "cache": str(tmp_path / "cache")}
    first = workshop.distill(tmp_path / "first", **settings)
    assert 0 < first.metrics["teacher_forwards"] < sum(TEXTS.values())
    teacher_forwards.clear()
    second = workshop.distill(tmp_path / "second", **settings)
    assert teacher_forwards == []
    assert second.metrics["teacher"] == first.metrics["teacher"]


@pytest.mark.parametrize(
    ("stored", "rel"),
    # by the kernels of three kinds of processors a term of a step was 0.0009, 0.018 and 0.0044 apart at most
    [("float16", 2e-3), ("bfloat16", 4e-2), ("int8", 1.5e-2)],
)
@pytest.mark.parametrize("method", COMPARED)
def test_a_run_from_a_smaller_cache_is_the_run_within_its_rounding(
    workshop: Workshop,
    tmp_path: Path,
    live: Callable[[str], Any],
    method: str,
    stored: str,
    rel: float,
) -> None:
    settings = {"method": method, "cache": str(tmp_path / "cache"), "learning_rate": RATE}
    assert_same_run(workshop.distill(tmp_path / "run", cache_dtype=stored, **settings), live(method), rel)
    used = {(entry.facts.field.split("-")[0], entry.facts.stored) for entry in entries(tmp_path / "cache")}
    of_logits = {("logits", "float16" if stored == "int8" else stored), ("logits", "float32")}  # the latter for scores
    others = {"kd": (), "minilm": ("qkv",), "tinybert": ("layer", "attention")}.get(method, ("layer",))
    assert used == of_logits | {(name, stored) for name in others}


def test_pairs_are_told_apart_by_their_token_types(workshop: Workshop, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": "pkd", "learning_rate": RATE}
    cached = {"cache": str(tmp_path / "cache"), "cache_dtype": "float32"}
    first = workshop.distill(tmp_path / "first", "pairs", **settings, **cached)
    assert_same_run(first, workshop.distill(tmp_path / "live", "pairs", **settings, cache="none"), ALIKE)


def test_methods_students_and_seeds_share_one_cache(
    workshop: Workshop, tmp_path: Path, teacher_forwards: list[int]
) -> None:
    cached = {"cache": str(tmp_path / "cache"), "epochs": 1, "checks": 1}
    assert workshop.distill(tmp_path / "a", method="lrc_bert", **cached).metrics["teacher_forwards"] > 0
    for name, changes in {
        "seed": {"method": "lrc_bert", "seed": 1},
        "student": {"method": "lrc_bert", "student": "2/16/2/32"},
        "method": {"method": "kd"},
    }.items():
        assert workshop.distill(tmp_path / name, **cached, **changes).metrics["teacher_forwards"] == 0
    # attention is new, and each text's outputs come of one pass
    more = workshop.distill(tmp_path / "more", method="tinybert", **cached).metrics["teacher_forwards"]
    assert more == TEXTS["train"]


def test_a_damaged_cache_gives_the_same_student(workshop: Workshop, tmp_path: Path) -> None:
    cached = {"method": "kd", "cache": str(tmp_path / "cache"), "epochs": 1, "checks": 1}
    first = workshop.distill(tmp_path / "first", **cached)
    shards = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(shards) >= 3  # logits twice, and the student's start
    for shard in shards:
        content = bytearray(shard.read_bytes())
        content[-2] ^= 1
        shard.write_bytes(content)
    second = workshop.distill(tmp_path / "second", **cached)
    assert second.metrics["teacher_forwards"] == first.metrics["teacher_forwards"] > 0
    assert sha256(second.model / "model.safetensors") == sha256(first.model / "model.safetensors")


def test_without_a_cache_none_is_written(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRASTILL_CACHE", str(tmp_path / "cache"))
    run = workshop.distill(tmp_path / "run", method="kd", cache="none", epochs=1, checks=1)
    assert "teacher_forwards" not in run.metrics
    assert not (tmp_path / "cache").exists()
    workshop.distill(tmp_path / "other", method="kd", epochs=1, checks=1)
    assert "CACHEDIR.TAG" in snapshot(tmp_path / "cache")


# ---- when there is nothing to store, or nowhere to put it


def assert_live(run: Any, other: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    assert [record for record in caplog.records if said in record.message and "in every step" in record.message]
    assert losses(run.folder) == losses(other.folder)


def test_where_there_is_too_little_room_runs_are_live_and_a_cache_asked_for_is_refused(
    workshop: Workshop,
    tmp_path: Path,
    live: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real, root = shutil.disk_usage, tmp_path / "cache"
    root.mkdir()
    free = {"bytes": 10}
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: SimpleNamespace(free=free["bytes"]) if Path(path).is_relative_to(root) else real(path),
    )
    with pytest.raises(UserError, match=r"64 texts take.*cache-dtype int8.*--cache none"):
        workshop.distill(tmp_path / "asked", method="kd", cache=str(root))
    monkeypatch.setenv("CONTRASTILL_CACHE", str(root))
    with caplog.at_level(logging.INFO):
        assert_live(
            workshop.distill(tmp_path / "run", method="kd", learning_rate=RATE), live("kd"), "64 texts take", caplog
        )
    assert not [entry for entry in entries(root) if entry.facts.stored == "float16"]
    # unasked, a cache takes half of what is free at most; asked for, nearly all
    need = 64 * 3 * 2
    free["bytes"] = int(need * 1.5)
    assert "in every step" in said_by(caplog, lambda: workshop.distill(tmp_path / "half", method="kd"))
    free["bytes"] = int(need * 1.5)
    again = workshop.distill(tmp_path / "enough", method="kd", cache=str(root))
    assert again.metrics["teacher_forwards"] == TEXTS["train"]
    # what is stored takes no further room
    free["bytes"] = 10
    assert "in every step" not in said_by(caplog, lambda: workshop.distill(tmp_path / "stored", method="kd"))
    stored = workshop.distill(tmp_path / "stored, asked", method="kd", cache=str(root))
    assert stored.metrics["teacher_forwards"] == 0


def said_by(caplog: pytest.LogCaptureFixture, do: Callable[[], Any]) -> str:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        do()
    return caplog.text


def test_a_cache_folder_that_cannot_be_written_stops_only_runs_that_asked_for_it(
    workshop: Workshop,
    tmp_path: Path,
    live: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/cache.*--cache none"):
        workshop.distill(tmp_path / "asked", method="kd", cache=str(tmp_path / "file/cache"))
    monkeypatch.setenv("CONTRASTILL_CACHE", str(tmp_path / "file/cache"))  # as where the home folder is read-only
    with caplog.at_level(logging.INFO):
        assert_live(
            workshop.distill(tmp_path / "run", method="kd", learning_rate=RATE), live("kd"), "file/cache", caplog
        )


def test_an_unknown_type_to_store_is_refused_before_work_starts(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"float16.*got 'float8'"):
        workshop.distill(tmp_path / "run", method="kd", cache_dtype="float8")
    assert not (tmp_path / "run").exists()
