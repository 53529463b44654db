"""The same total batch on two processes, or in two parts, trains the same student."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from workshop import Workshop

import contrastill
import warm
from contrastill import UserError

TWO = """
import json, sys
import contrastill
for command, settings in json.load(open(sys.argv[1])):
    getattr(contrastill, command)(**settings)
"""
RUNS: dict[str, dict[str, Any]] = {
    "lrc_bert": {"method": "lrc_bert"},
    "queue": {"method": "lrc_bert", "set": {"queue": 20}},
    "perturbed": {"method": "lrc_bert", "perturb": "l2-per-token", "epsilon": 0.1},
    "kd": {"method": "kd"},
    "dist": {"method": "dist"},
    "unlabelled": {"method": "kd", "unlabelled": True},
    "weighted": {"method": "kd", "class_weights": True},
    "finetune": {},
    "contrast": {"set": {"queue": 20}, "anchor": "itself"},
    "chunked": {"chunk": 3},
    "distillcse": {
        "method": "distillcse",
        "anchor": "itself",
        "set": {"anchor_temperature": 0.1, "teacher_temperature": 0.05},  # sharper ones make more of rounding
    },
}
CONTRASTS = ("contrast", "chunked", "distillcse")


def command_of(name: str) -> str:
    return "contrast" if name in CONTRASTS else "finetune" if name == "finetune" else "distill"


def contrast_settings(workshop: Workshop, out: Path, **changes: Any) -> dict[str, Any]:
    """Of triples of which some share a text, and an embedder that is its own anchor."""
    st = pytest.importorskip("sentence_transformers")
    model, pairs = out.with_name("embedder"), out.with_name("triples.csv")
    if not model.exists():
        st.SentenceTransformer(str(workshop.plain_encoder()), device="cpu").save(str(model))
        rows = [f"song tune word{n},soup word{n % 29},race ball word{n} word{n + 1}" for n in range(58)]
        pairs.write_text("\n".join(["anchor,positive,negative", *rows]))
    if "anchor" in changes:
        changes["anchor"] = str(model)
    quick = {
        "batch_size": 8,
        "epochs": 1.5,
        "checks": 1,
        "learning_rate": 1e-3,
        "precision": "fp32",
        "keep_checkpoints": True,
        "max_length": 32,
    }
    return {**quick, "model": str(model), "pairs": str(pairs), "out": str(out), **changes}


TOLERANCE = 1e-5


def settings_of(workshop: Workshop, name: str, out: Path) -> dict[str, Any]:
    """A run of 10 steps of a model without dropout; 60 rows, so that the last of an epoch make no whole batch."""
    if name in CONTRASTS:
        return contrast_settings(workshop, out, **RUNS[name])
    changes = {"limit": 60, "learning_rate": 1e-3, "checks": 1, "epochs": 1.5, **RUNS[name]}
    if changes.get("unlabelled"):
        more = out.with_suffix(".txt")
        more.write_text("".join(f"word{n} song word{n + 1} tune\n" for n in range(24)))
        changes["unlabelled"] = str(more)
    if changes.get("class_weights"):
        file = out.with_suffix(".json")
        file.write_text(json.dumps({"food": 0.1, "music": 4, "sport": 1}))
        changes["class_weights"] = str(file)
    settings = workshop.settings(out, plain=True, **changes)
    if name == "finetune":
        settings = {k: v for k, v in settings.items() if k not in ("teacher", "student")}
        settings["model"] = str(workshop.plain_encoder())
    return settings


def trained(workshop: Workshop, name: str, out: Path, **changes: Any) -> Path:
    settings = {**settings_of(workshop, name, out), **changes}
    return getattr(contrastill, command_of(name))(**settings).folder


def weights(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What leaves training, and all that was trained, at the last step."""
    last = max((folder / "checkpoints").iterdir(), key=lambda p: int(p.name.split("-")[1]))
    kept = folder / "student" if (folder / "student").exists() else folder / "model"
    return load_file(kept / "model.safetensors"), load_file(last / "model.safetensors")


def difference(a: Path, b: Path) -> float:
    """The largest one of anything that was trained (weights, projections, queue), at the last step.

    Softmax does not see the keys' bias: its gradient is rounding noise, which Adam blows up to whole steps.
    """
    ours, theirs = weights(a)[1], weights(b)[1]
    assert ours.keys() == theirs.keys()
    compared = [name for name in ours if not name.endswith("key.bias") and ours[name].numel()]
    assert len(compared) > 30
    return max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in compared)


@pytest.fixture(scope="module")
def on_two_processes(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run of `RUNS`, made by one launch of two processes, told of each other as `torchrun` does."""
    root = tmp_path_factory.mktemp("two")
    jobs = [(command_of(name), settings_of(workshop, name, root / name)) for name in RUNS]
    (root / "jobs.json").write_text(json.dumps(jobs))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    both = []
    for rank in map(str, range(2)):
        env = {**os.environ, **meeting, "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}
        with (root / f"{rank}.txt").open("w") as said:
            command = [sys.executable, "-c", TWO, str(root / "jobs.json")]
            both.append(warm.Popen(command, env=env, stdout=said, stderr=said))
    ended = [process.wait(240) for process in both]
    assert ended == [0, 0], (root / "0.txt").read_text()[-4000:] + (root / "1.txt").read_text()[-4000:]
    return root


@pytest.fixture(scope="module")
def on_one_process(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("one")
    return {name: trained(workshop, name, root / name) for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_what_one_does(on_two_processes: Path, on_one_process: dict[str, Path], name: str) -> None:
    assert difference(on_two_processes / name, on_one_process[name]) < TOLERANCE


def test_the_runs_that_are_compared_do_train_and_differ(workshop: Workshop, on_one_process: dict[str, Path]) -> None:
    assert len(on_one_process) == 11
    for name in ("queue", "perturbed"):
        ours, theirs = weights(on_one_process[name])[0], weights(on_one_process["lrc_bert"])[0]
        assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) > 100 * TOLERANCE


def test_two_processes_report_the_scores_of_one(on_two_processes: Path, on_one_process: dict[str, Path]) -> None:
    for name in RUNS.keys() - set(CONTRASTS):
        folders = (on_two_processes / name, on_one_process[name])
        ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in folders)
        kind = "model" if name == "finetune" else "student"
        assert ours[kind]["test"]["metrics"] == theirs[kind]["test"]["metrics"]
        assert ours["steps"] == theirs["steps"] == len(log(on_two_processes / name))


def test_two_processes_log_the_loss_and_the_terms_of_the_whole_batch(
    on_two_processes: Path, on_one_process: dict[str, Path]
) -> None:
    for ours, theirs in zip(log(on_two_processes / "unlabelled"), log(on_one_process["unlabelled"]), strict=True):
        for column in ("step", "stage", "loss", "kd", "hard", "learning_rate"):
            assert ours[column] == pytest.approx(theirs[column], rel=1e-3), (column, ours["step"])


def log(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


@pytest.mark.parametrize("name", ["kd", "finetune", "unlabelled"])
def test_a_batch_in_parts_trains_what_the_whole_batch_does(
    workshop: Workshop, on_one_process: dict[str, Path], tmp_path: Path, name: str
) -> None:
    assert difference(trained(workshop, name, tmp_path / "parts", accumulate=2), on_one_process[name]) < TOLERANCE


def test_a_batch_in_parts_logs_the_terms_of_the_whole_batch(
    workshop: Workshop, on_one_process: dict[str, Path], tmp_path: Path
) -> None:
    for ours, theirs in zip(
        log(trained(workshop, "kd", tmp_path / "parts", accumulate=4)), log(on_one_process["kd"]), strict=True
    ):
        for column in ("step", "loss", "kd", "hard"):
            assert ours[column] == pytest.approx(theirs[column], rel=1e-3), (column, ours["step"])


def test_a_batch_in_parts_that_would_be_another_loss_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--accumulate at 1.*--batch-size"):
        trained(workshop, "lrc_bert", tmp_path / "parts", accumulate=2)


def test_a_batch_that_the_parts_do_not_divide_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 part.*got 8"):
        trained(workshop, "kd", tmp_path / "parts", accumulate=3)
