"""A run that was stopped, killed or starved of disk, and taken up again, ends as if nothing had happened."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from interruptions import PowerCut, cut_at, stopping_at
from safetensors.torch import load_file
from workshop import Workshop, sha256, snapshot

import warm
from contrastill import Distillation, Finetuning, Interrupted, UserError, distill, finetune
from contrastill.machine import bf16_pays
from contrastill.training.callbacks import Elapsed, Stages, StopRequest
from contrastill.training.checkpoints import Seal, last_good_checkpoint
from contrastill.training.examples import Examples
from contrastill.training.folder import RunFolder

STEPS = 16  # 2 epochs of 8
EPOCH = 8
LATE = {"representation": 0.8, "joint": 0.2}  # so that the stages meet in mid-epoch
BOUNDARY = {"lrc_bert": 13, "tinybert": 14}  # where stage 2 begins

RUNS: dict[str, dict[str, Any]] = {
    "lrc_bert": {"method": "lrc_bert", "stages": LATE},
    "queue": {"method": "lrc_bert", "stages": LATE, "set": {"queue": 20, "negatives": 4}},
    "perturbed": {"method": "lrc_bert", "stages": LATE, "perturb": "l2-per-token", "set": {"queue": 8}},
    "tinybert": {"method": "tinybert"},
    "pea_kd": {"method": "pea_kd", "perturb": "l2-per-token"},
    "rrd_task": {"method": "rrd_task", "set": {"queue": 20}},
    "unlabelled": {"method": "kd", "unlabelled": True},
    "bf16": {"method": "lrc_bert", "precision": "bf16", "schedule": "linear"},
}
STOPS = [
    ("lrc_bert", EPOCH),
    ("lrc_bert", BOUNDARY["lrc_bert"]),
    ("lrc_bert", BOUNDARY["lrc_bert"] + 1),
    ("queue", 3),
    ("perturbed", 6),
    ("tinybert", 7),
    ("tinybert", BOUNDARY["tinybert"]),
    ("tinybert", BOUNDARY["tinybert"] + 1),
    ("pea_kd", 9),
    ("rrd_task", 3),
    ("unlabelled", 10),
    ("bf16", 9),
]


class Reference:
    """Uninterrupted runs, each made once."""

    def __init__(self, workshop: Workshop, root: Path) -> None:
        self.workshop, self.root, self.made = workshop, root, set()
        self.more = root / "more.txt"
        self.more.write_text("".join(f"word{n} song word{n + 1}\n" for n in range(24)))

    def settings(self, name: str, out: Path) -> dict[str, Any]:
        changes = dict(RUNS[name])
        if changes.get("unlabelled"):
            changes["unlabelled"] = str(self.more)
        return self.workshop.settings(out, **changes)

    def folder(self, name: str) -> Path:
        folder = self.root / name
        if name not in self.made:
            distill(**self.settings(name, folder))
            self.made.add(name)
        return folder


@pytest.fixture(scope="module")
def reference(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(workshop, tmp_path_factory.mktemp("reference"))


def interrupted(settings: dict[str, Any], step: int) -> None:
    with stopping_at(step), pytest.raises(Interrupted):
        distill(**settings)
    assert not (Path(settings["out"]) / "student").exists()


def assert_same(ours: Path, theirs: Path, last: str | None = None) -> None:
    """Equal to the bit: the student, and everything that was trained beside it (projections, queue)."""
    assert sha256(ours / "student/model.safetensors") == sha256(theirs / "student/model.safetensors")
    last = last or max((p.name for p in (theirs / "checkpoints").iterdir()), key=lambda name: int(name.split("-")[1]))
    a, b = (load_file(folder / "checkpoints" / last / "model.safetensors") for folder in (ours, theirs))
    assert a.keys() == b.keys()
    assert [name for name in a if not a[name].equal(b[name])] == []


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))


def test_the_stop_points_lie_where_their_names_say(reference: Reference) -> None:
    for name in ("lrc_bert", "tinybert"):
        rows = [json.loads(line) for line in (reference.folder(name) / "log.jsonl").read_text().splitlines()]
        stages = {row["step"]: row["stage"] for row in rows if "stage" in row}
        assert sorted(stages) == list(range(1, STEPS + 1))
        assert [step for step, stage in stages.items() if stage == 1] == list(range(1, BOUNDARY[name] + 1))


@pytest.mark.parametrize(("name", "step"), STOPS)
def test_a_run_stopped_and_resumed_ends_as_the_uninterrupted_one(
    reference: Reference, tmp_path: Path, name: str, step: int
) -> None:
    settings = reference.settings(name, tmp_path / "run")
    interrupted(settings, step)
    distill(**settings, resume=True)
    assert_same(tmp_path / "run", reference.folder(name))


def test_a_run_stopped_again_and_again_ends_as_the_uninterrupted_one(reference: Reference, tmp_path: Path) -> None:
    settings = reference.settings("queue", tmp_path / "run")
    interrupted(settings, 2)
    for step in (3, 14):
        with stopping_at(step), pytest.raises(Interrupted):
            distill(**settings, resume=True)
    distill(**settings, resume=True)
    assert_same(tmp_path / "run", reference.folder("queue"))


def test_a_stop_asked_for_in_the_last_step_finishes_the_run(reference: Reference, tmp_path: Path) -> None:
    settings = reference.settings("lrc_bert", tmp_path / "run")
    with stopping_at(STEPS):
        distill(**settings)
    assert_same(tmp_path / "run", reference.folder("lrc_bert"))


@pytest.mark.parametrize("step", [6, STEPS])
def test_a_run_cut_off_goes_on_from_its_last_checkpoint(reference: Reference, tmp_path: Path, step: int) -> None:
    settings = reference.settings("queue", tmp_path / "run")
    with cut_at(step), pytest.raises(PowerCut):
        distill(**settings)
    assert checkpoints(tmp_path / "run")
    distill(**settings, resume=True)
    assert_same(tmp_path / "run", reference.folder("queue"))


def test_a_run_cut_off_before_its_first_checkpoint_starts_again(reference: Reference, tmp_path: Path) -> None:
    settings = reference.settings("lrc_bert", tmp_path / "run")
    with cut_at(2), pytest.raises(PowerCut):
        distill(**settings)
    assert not checkpoints(tmp_path / "run")
    distill(**settings, resume=True)
    assert_same(tmp_path / "run", reference.folder("lrc_bert"))


def test_the_teachers_texts_of_all_parts_are_counted(reference: Reference, tmp_path: Path) -> None:
    def settings(run: str) -> dict[str, Any]:
        return {
            **reference.settings("lrc_bert", tmp_path / run),
            "cache": str(tmp_path / f"{run} cache"),
        }

    whole = distill(**settings("whole")).metrics["teacher_forwards"]
    interrupted(settings("parts"), 3)
    with stopping_at(7), pytest.raises(Interrupted):
        distill(**settings("parts"), resume=True)
    assert distill(**settings("parts"), resume=True).metrics["teacher_forwards"] == whole > 0


def test_the_resumed_log_has_every_step_once(reference: Reference, tmp_path: Path) -> None:
    settings = reference.settings("lrc_bert", tmp_path / "run")
    with cut_at(6), pytest.raises(PowerCut):
        distill(**settings)
    distill(**settings, resume=True)
    logs = []
    for folder in (tmp_path / "run", reference.folder("lrc_bert")):
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        logs.append([row for row in rows if "train_runtime" not in row])
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]]
    assert logs[0] == logs[1]


def test_the_seconds_are_those_of_all_parts(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a first part that began 1,000 seconds ago, and one before it whose preparation took 500."""
    settings = reference.settings("lrc_bert", tmp_path / "run")
    began = Elapsed.__init__
    with monkeypatch.context() as first:

        def long_ago(self: Elapsed, checkpoint: Path | None) -> None:
            began(self, checkpoint)
            self.begun -= 1000

        first.setattr(Elapsed, "__init__", long_ago)
        interrupted(settings, 3)
    record = tmp_path / "run" / "run.json"
    noted = json.loads(record.read_text())
    assert set(noted["seconds"]) == {"preparation", "scores before", "teacher outputs", "checks"}
    noted["seconds"]["preparation"] += 500
    record.write_text(json.dumps(noted))
    with stopping_at(6), pytest.raises(Interrupted):
        distill(**settings, resume=True)
    found = distill(**settings, resume=True).metrics["seconds"]
    assert 1000 < found["training"] < 1100
    assert 500 < found["preparation"] < 600
    assert found["evaluation"] < 100


def test_fine_tuning_resumes_as_well(workshop: Workshop, tmp_path: Path) -> None:
    settings = {k: v for k, v in workshop.settings(tmp_path / "a").items() if k not in ("student", "teacher")}
    settings["model"] = str(workshop.encoder())
    finetune(**settings)
    settings["out"] = str(tmp_path / "b")
    with stopping_at(7), pytest.raises(Interrupted):
        finetune(**settings)
    finetune(**settings, resume=True)
    assert sha256(tmp_path / "b/model/model.safetensors") == sha256(tmp_path / "a/model/model.safetensors")


# ---- checkpoints that are not whole --------------------------------------------------------------------------------


def cut_short(checkpoint: Path) -> None:
    path = checkpoint / "optimizer.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (checkpoint / "model.safetensors").write_bytes(content)


def unseal(checkpoint: Path) -> None:
    (checkpoint / "complete.json").unlink()


def half_a_seal(checkpoint: Path) -> None:
    (checkpoint / "complete.json").write_text('{"model.safetensors": [12')


def lose_a_file(checkpoint: Path) -> None:
    (checkpoint / "rng_state.pth").unlink()


@pytest.fixture(scope="module")
def cut_run(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of steps 4 and 8."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    with cut_at(10), pytest.raises(PowerCut):
        distill(**reference.settings("queue", folder))
    assert [p.name for p in checkpoints(folder)] == ["checkpoint-4", "checkpoint-8"]
    return folder


@pytest.mark.parametrize("damage", [cut_short, flip_a_byte, unseal, half_a_seal, lose_a_file])
def test_a_damaged_checkpoint_is_passed_over(
    cut_run: Path, tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(cut_run / "checkpoints", tmp_path / "checkpoints")
    assert last_good_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints/checkpoint-8"
    damage(tmp_path / "checkpoints/checkpoint-8")
    assert last_good_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints/checkpoint-4"
    assert "checkpoint-8" in caplog.text
    damage(tmp_path / "checkpoints/checkpoint-4")
    assert last_good_checkpoint(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("survivors", [1, 0])
def test_a_run_whose_checkpoints_are_damaged_ends_as_the_uninterrupted_one(
    cut_run: Path, reference: Reference, survivors: int
) -> None:
    work = cut_run.parent / f"survivors-{survivors}"
    shutil.copytree(cut_run, work)
    settings = reference.settings("queue", work)
    for checkpoint in checkpoints(work)[survivors:]:
        flip_a_byte(checkpoint)
    distill(**settings, resume=True)
    assert_same(work, reference.folder("queue"))


def test_the_checkpoint_before_stays_until_the_new_one_is_whole(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the best one, which is kept anyway, is the first."""
    settings = reference.settings("lrc_bert", tmp_path / "run")
    seal, scores = Seal.on_save, iter([0.9, 0.9, 0.9, 0.5, 0.4])  # the teacher's first, on dev and test

    def on_save(self: Seal, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 12:
            raise PowerCut
        seal(self, args, state, control, **more)

    monkeypatch.setattr(Seal, "on_save", on_save)
    monkeypatch.setattr(Examples, "scores", lambda *_, **__: {"metrics": {"accuracy": next(scores), "f1": 0.0}})
    with pytest.raises(PowerCut):
        distill(**settings, force=True)
    assert last_good_checkpoint(tmp_path / "run/checkpoints") == tmp_path / "run/checkpoints/checkpoint-8"


def test_a_stray_folder_beside_the_checkpoints_is_no_checkpoint(cut_run: Path, tmp_path: Path) -> None:
    shutil.copytree(cut_run / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints/checkpoint-8-copy").mkdir()
    (tmp_path / "checkpoints/checkpoint-best").mkdir()
    assert last_good_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints/checkpoint-8"


# ---- what may not change, and finished runs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"seed": 7}, "seed"),
        ({"method": "kd", "set": {}}, "method"),
        ({"set": {"queue": 4}}, "set"),
    ],
)
def test_other_settings_are_refused_on_resume(
    cut_run: Path, reference: Reference, changes: dict[str, Any], named: str
) -> None:
    before = snapshot(cut_run)
    with pytest.raises(UserError, match=named):
        distill(**{**reference.settings("queue", cut_run), **changes}, resume=True)
    assert snapshot(cut_run) == before


def test_other_data_is_refused_on_resume(workshop: Workshop, tmp_path: Path) -> None:
    data = shutil.copytree(workshop.data(), tmp_path / "data")
    settings = workshop.settings(tmp_path / "run", method="kd", data=str(data))
    interrupted(settings, 5)
    text = (data / "train.csv").read_text()
    (data / "train.csv").write_text(text.replace("word1 ", "word2 "))
    assert text != (data / "train.csv").read_text()
    with pytest.raises(UserError, match="data"):
        distill(**settings, resume=True)
    (data / "train.csv").write_text(text)
    distill(**settings, resume=True)


def test_another_teacher_is_refused_on_resume(workshop: Workshop, tmp_path: Path) -> None:
    teacher = shutil.copytree(workshop.teacher(), tmp_path / "teacher")
    settings = workshop.settings(tmp_path / "run", method="kd", teacher=str(teacher))
    interrupted(settings, 5)
    flip_a_byte(teacher)
    with pytest.raises(UserError, match="teacher"):
        distill(**settings, resume=True)


def test_resuming_a_finished_run_returns_its_result(reference: Reference) -> None:
    folder = reference.folder("lrc_bert")
    before = snapshot(folder)
    run = distill(**reference.settings("lrc_bert", folder), resume=True)
    assert run.metrics["student"]["test"]["rows"] == 36
    assert run.model == folder / "student"
    assert snapshot(folder) == before


def test_a_finished_run_keeps_its_weights_once(workshop: Workshop, tmp_path: Path) -> None:
    settings = {**workshop.settings(tmp_path / "run", method="kd", epochs=0.5), "keep_checkpoints": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contrastill.training.run.leave_report", power_cut)
        with pytest.raises(PowerCut):
            distill(**settings)
    assert checkpoints(tmp_path / "run"), "a run that is killed before its end has them"
    run = distill(**settings, resume=True)
    assert sorted(run.folder.rglob("model.safetensors")) == [run.model / "model.safetensors"]
    assert not checkpoints(run.folder)
    before = snapshot(run.folder)
    assert distill(**settings, resume=True).metrics == run.metrics
    assert snapshot(run.folder) == before


def power_cut(*_: Any) -> None:
    raise PowerCut


@pytest.mark.parametrize("made", ["--keep-checkpoints", "before the option"])
def test_checkpoints_stay_where_they_were_to_be_kept_or_the_run_is_of_an_earlier_version(
    workshop: Workshop, tmp_path: Path, made: str
) -> None:
    settings = workshop.settings(tmp_path / "run", method="kd", epochs=0.25)
    folder = distill(**settings).folder
    assert checkpoints(folder)
    if made == "before the option":
        record = json.loads((folder / "run.json").read_text())
        del record["settings"]["keep_checkpoints"]
        (folder / "run.json").write_text(json.dumps(record))
    distill(**{**settings, "keep_checkpoints": made != "before the option"}, resume=True)
    assert checkpoints(folder)


def test_what_lies_beside_the_checkpoints_stays(tmp_path: Path) -> None:
    folder = RunFolder("finetune", Finetuning(model="m", data="d", out=str(tmp_path / "run")), resume=False)
    for name in ("checkpoint-4", "runs"):
        (folder.checkpoints / name).mkdir(parents=True)
    folder.drop_checkpoints()
    folder.release()
    assert [each.name for each in folder.checkpoints.iterdir()] == ["runs"]


def test_a_run_that_goes_on_elsewhere_computes_as_it_began(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("contrastill.machine._bf16_flags", lambda _: [])
    settings = reference.settings("lrc_bert", tmp_path / "run") | {
        "precision": "auto",
        "cache": str(tmp_path / "cache"),
    }
    distill(**settings | {"out": str(tmp_path / "whole")})
    with stopping_at(5), pytest.raises(Interrupted):
        distill(**settings)
    monkeypatch.setattr("contrastill.machine._bf16_flags", lambda _: ["amx_bf16"])
    with stopping_at(9), pytest.raises(Interrupted), caplog.at_level("INFO"):
        distill(**settings, resume=True)
    assert "--precision auto: float32, as the run began with it" in caplog.text
    assert bf16_pays()
    distill(**settings, resume=True)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_resuming_what_is_no_run_is_refused(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to resume"):
        distill(**reference.settings("lrc_bert", tmp_path / "none"), resume=True)
    assert not (tmp_path / "none").exists()


def test_resuming_a_run_killed_while_its_folder_was_made_says_so(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(UserError, match="no run to resume"):
        distill(**reference.settings("lrc_bert", tmp_path), resume=True)


# ---- real signals and a real full disk -----------------------------------------------------------------------------

CLI = [sys.executable, "-m", "contrastill"]
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def options(settings: dict[str, Any]) -> list[str]:
    """Settings as command-line options."""
    result = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            for key, item in value.items():
                result += [flag, f"{key}={item}"]
        else:
            result += [flag] if value is True else [flag, str(value)]
    return result


def started(settings: dict[str, Any], **more: Any) -> warm.Popen:
    """The run in a process of its own, once it has two whole checkpoints."""
    command = [*CLI, "distill", *options(settings)]
    process = warm.Popen(command, env=QUIET, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(Path(settings["out"]).glob("checkpoints/*/complete.json"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_and_stops(reference: Reference, tmp_path: Path, number: signal.Signals) -> None:
    settings = reference.settings("queue", tmp_path / "run")
    with sending(number, 6), pytest.raises(Interrupted, match=f"contrastill distill --resume {tmp_path / 'run'}"):
        distill(**settings)
    assert last_good_checkpoint(tmp_path / "run/checkpoints") == tmp_path / "run/checkpoints/checkpoint-6"
    assert signal.getsignal(number) is not StopRequest.ask
    distill(**settings, resume=True)
    assert_same(tmp_path / "run", reference.folder("queue"))


def test_a_second_ctrl_c_stops_at_once(reference: Reference, tmp_path: Path) -> None:
    settings = reference.settings("queue", tmp_path / "run")
    with sending(signal.SIGINT, 6, 6), pytest.raises(KeyboardInterrupt) as stop:
        distill(**settings)
    assert not isinstance(stop.value, Interrupted)
    assert last_good_checkpoint(tmp_path / "run/checkpoints") == tmp_path / "run/checkpoints/checkpoint-4"


@contextmanager
def sending(number: signal.Signals, *steps: int) -> Iterator[None]:
    """The process sends itself the signal at the beginning of each of the steps."""
    before = Stages.on_step_begin

    def on_step_begin(self: Stages, args: Any, state: Any, control: Any, **more: Any) -> None:
        for step in steps:
            if state.global_step == step - 1:
                os.kill(os.getpid(), number)
        before(self, args, state, control, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stages, "on_step_begin", on_step_begin)
        yield


def test_a_process_that_is_killed_leaves_a_run_that_resumes(reference: Reference, tmp_path: Path) -> None:
    settings = {**reference.settings("queue", tmp_path / "run"), "epochs": 400, "checks": 200}
    process = started(settings)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    kept = last_good_checkpoint(tmp_path / "run/checkpoints")
    assert kept is not None
    at = int(kept.name.split("-")[1]) + 6  # whether it goes on to the bit is seen in the next steps
    record = Distillation.of(tmp_path / "run/run.json").record()
    for again in (dict(record, resume=True), dict(record, out=str(tmp_path / "whole"))):
        with stopping_at(at), pytest.raises(Interrupted):
            distill(**again)
    name = f"checkpoints/checkpoint-{at}/model.safetensors"
    assert sha256(tmp_path / "run" / name) == sha256(tmp_path / "whole" / name)


FULL_DISK = """
import resource, signal, sys
from contrastill.training import callbacks
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
before = callbacks.Stages.on_step_end
def on_step_end(self, args, state, control, **more):
    if state.global_step == 6:  # the checkpoint of step 4 is whole; that of step 8 will not fit
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    before(self, args, state, control, **more)
callbacks.Stages.on_step_end = on_step_end
from contrastill.cli import main
sys.argv = ["contrastill", *sys.argv[1:]]
main()
"""


def test_a_disk_that_fills_up_is_an_error_that_says_how_to_go_on(reference: Reference, tmp_path: Path) -> None:
    settings = reference.settings("queue", tmp_path / "run")
    command = [sys.executable, "-c", FULL_DISK, "distill", *options(settings)]
    done = warm.run(command, env=QUIET, timeout=120)
    words = " ".join(done.stderr.split())
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "could not save" in words
    assert "checkpoint-4" in words
    assert f"contrastill distill --resume {tmp_path / 'run'}" in words
    assert last_good_checkpoint(tmp_path / "run/checkpoints") == tmp_path / "run/checkpoints/checkpoint-4"
    distill(**Distillation.of(tmp_path / "run/run.json").record(), resume=True)
    assert_same(tmp_path / "run", reference.folder("queue"))


def test_a_disk_full_from_the_start_is_an_error_that_names_the_folder(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, write = reference.settings("queue", tmp_path / "run"), Path.write_text

    def write_text(self: Path, *args: Any, **more: Any) -> int:
        if self.is_relative_to(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *args, **more)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(UserError, match=r"run.*No space left"):
        distill(**settings)


def test_a_file_in_the_way_of_the_folder_is_an_error_and_stays(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(UserError, match="file"):
            distill(**reference.settings("lrc_bert", out))
    assert (tmp_path / "file").read_text() == "mine"
