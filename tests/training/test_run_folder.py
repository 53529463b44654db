"""A run's folder: who may write there, what may be replaced, and what a record must be to be taken up."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from contrastill import Finetuning, UserError
from contrastill.results import RunRecord
from contrastill.training.folder import RunFolder
from contrastill.training.run import finished, saving


def settings(out: Path | str, **changes: Any) -> Finetuning:
    return Finetuning(**{"model": "m", "data": "d", "out": str(out), **changes})


def begun(out: Path, **changes: Any) -> None:
    """A run that has begun, and was killed."""
    with RunFolder("finetune", settings(out, **changes), resume=False) as folder:
        folder.begin()


def ended(out: Path) -> None:
    with RunFolder("finetune", settings(out), resume=False) as folder:
        folder.begin()
        folder.save_model("model", lambda place: (place / "config.json").write_text("{}") and None)
        folder.write("metrics.json", {"task": "t", "metric": None})
        folder.note(status="finished")


# ---- one run a folder


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_a_folder_is_refused_while_the_first_is_at_work(tmp_path: Path, resume: bool) -> None:
    begun(tmp_path / "run")
    first = settings(tmp_path / "run", overwrite=not resume)
    with RunFolder("finetune", first, resume=resume):
        for again in (True, False):
            with pytest.raises(UserError, match=f"in use by process {os.getpid()} on .* since "):
                RunFolder("finetune", settings(tmp_path / "run", overwrite=True), resume=again)
    RunFolder("finetune", first, resume=resume).release()


def test_a_folder_is_held_before_it_is_made_and_while_it_is_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        with RunFolder("finetune", settings(tmp_path / "run", overwrite=True), resume=False) as folder:
            with pytest.raises(UserError, match="in use"):
                RunFolder("finetune", settings(tmp_path / "run"), resume=False)
            folder.begin()
            with pytest.raises(UserError, match="in use"):
                RunFolder("finetune", settings(tmp_path / "run"), resume=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_run_that_is_refused_leaves_nothing_and_holds_nothing(tmp_path: Path) -> None:
    for resume in (True, False):
        with pytest.raises(ZeroDivisionError), RunFolder("finetune", settings(tmp_path / "a/b"), resume=False):
            1 / 0  # noqa: B018
        with pytest.raises(UserError):
            RunFolder("finetune", settings(tmp_path / "a/b"), resume=True)
        assert not (tmp_path / "a").exists(), resume


# ---- where a run may be


@pytest.mark.parametrize("place", ["", "file", "file/below", "\ud800/x", "n" * 256])
def test_a_place_that_can_hold_no_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"), RunFolder("finetune", settings(place), resume=False) as folder:
        folder.begin()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("out", [".", "run/", "./run/../run", "link", "~/run"])
def test_a_place_by_another_name_is_that_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    place = tmp_path if out == "." else tmp_path / "run"
    (tmp_path / "run").mkdir()
    if out != ".":
        (tmp_path / "link").symlink_to(tmp_path / "run")
    else:
        (tmp_path / "run").rmdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for overwrite in (False, True):
        with RunFolder("finetune", settings(out, overwrite=overwrite), resume=False) as folder:
            folder.begin()
        assert RunRecord.read(place).status == "running"
    RunFolder("finetune", settings(out), resume=True).release()
    assert out != "link" or (tmp_path / "link").is_symlink()


def test_overwriting_deletes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended(run)
    kept = tmp_path / "elsewhere"
    kept.mkdir()
    (kept / "bundle").touch()
    (run / "exports").symlink_to(kept)
    for name in ("checkpoints", "student.part"):
        (run / name).mkdir()
    for name in ("log.jsonl", "evidence.json", "report.html", "bench.json", ".note"):
        (run / name).touch()
    begun(run, overwrite=True)
    assert sorted(path.name for path in run.iterdir()) == [".note", "run.json"]
    assert (kept / "bundle").exists()


def test_overwriting_is_refused_where_the_folder_holds_more_than_a_run(tmp_path: Path) -> None:
    ended(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"has others: 'thesis\.tex'; move it away"):
        begun(tmp_path, overwrite=True)
    assert (tmp_path / "metrics.json").exists()


# ---- taking a run up


def test_a_run_is_taken_up_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("d.csv", "there/d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    begun(Path("run"), data="d.csv", model="org/name")
    record = RunRecord.read(tmp_path / "run")
    assert (record.settings["data"], record.settings["model"]) == (str(tmp_path / "d.csv"), "org/name")
    assert record.cwd == str(tmp_path)
    RunFolder("finetune", settings("run", data="./d.csv", model="org/name"), resume=True).release()
    monkeypatch.chdir(tmp_path / "there")
    again = Finetuning.of("../run/run.json", out="../run")
    RunFolder("finetune", again, resume=True).release()
    with pytest.raises(UserError, match="other settings: it was run with data = "):
        RunFolder("finetune", settings("../run", data="d.csv", model="org/name"), resume=True)


def test_a_run_begun_before_a_setting_was_there_is_refused_for_its_version(tmp_path: Path) -> None:
    begun(tmp_path, data="d.csv", model="org/name")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["settings"].pop("warmup") is not None
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"it was started by a version of Contrastill without warmup; start a new run"):
        RunFolder("finetune", settings(tmp_path, data="d.csv", model="org/name"), resume=True)
    with pytest.raises(UserError, match="other settings: it was run with data = "):
        RunFolder("finetune", settings(tmp_path, data="other.csv", model="org/name"), resume=True)


def test_a_run_that_ended_without_its_page_gets_one(tmp_path: Path) -> None:
    ended(tmp_path)
    with RunFolder("finetune", settings(tmp_path), resume=True) as folder:
        run = finished(folder, "model")
    assert run is not None
    assert run.metrics == {"task": "t", "metric": None}
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("lost", ["metrics.json", "model/config.json"])
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_run_that_ended_and_lost_its_model_or_scores_is_finished_again(tmp_path: Path, lost: str, how: str) -> None:
    ended(tmp_path)
    (tmp_path / lost).unlink()
    if how == "empty" and lost == "metrics.json":
        (tmp_path / lost).touch()
    with RunFolder("finetune", settings(tmp_path), resume=True) as folder:
        assert finished(folder, "model") is None


# ---- a disk that fills


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        RuntimeError("basic_ios::clear: iostream error"),
    ],
)
def test_whatever_says_that_the_disk_is_full_becomes_one_message(tmp_path: Path, error: Exception) -> None:
    begun(tmp_path / "run")
    with RunFolder("finetune", settings(tmp_path / "run"), resume=True) as folder:
        with pytest.raises(UserError, match=r"could not save .* free space there, then .*--resume"), saving(folder):
            raise error
        with pytest.raises(RuntimeError, match="size mismatch"), saving(folder):
            raise RuntimeError("size mismatch")


def test_a_record_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path)
    before = (tmp_path / "run.json").read_text()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunFolder("finetune", settings(tmp_path), resume=True) as folder:
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(UserError, match="No space left"), saving(folder):
            folder.note(steps=3)
    assert (tmp_path / "run.json").read_text() == before
    assert json.loads(before)["status"] == "running"
