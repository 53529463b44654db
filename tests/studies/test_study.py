"""Cells run once, resumed, refused, shared, failing; their means; and the command."""

import json
import multiprocessing
import os
import shutil
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from workshop import QUICK, Workshop

from contrastill import Interrupted, Study, UserError
from contrastill.cli import app
from contrastill.errors import CheckFailed
from contrastill.studies import Cells
from contrastill.training.callbacks import StopRequest


def add(seed: int, out: str, x: float = 0.0, **more: Any) -> dict[str, Any]:
    """A command of the user's."""
    if x < 0:
        raise ZeroDivisionError("no such x")
    ASKED.append((x, seed, more))
    return {"dev": x + seed, "metric": "sum", "found": 2 * x}


ASKED: list[tuple[Any, ...]] = []


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    ASKED.clear()


def adding(out: Path, *, seeds: int = 2, **xs: float) -> Study:
    return Study({name: {"x": x} for name, x in xs.items()}, out, shared={"command": add}, seeds=seeds)


def rows(out: Path) -> list[dict[str, Any]]:
    return Cells(out).read()["rows"]


# ---- axes


def test_axes_give_every_combination_with_its_settings_and_names(tmp_path: Path) -> None:
    axes = {
        "data": {"few": {"x": 1, "set": {"a": 1, "b": 1}}, "many": {"x": 2}},
        "method": {"kd": {"method": "kd", "set": {"b": 2}}, "lrc": {"method": "lrc"}},
    }
    study = Study(None, tmp_path / "out.json", axes=axes, shared={"command": add})
    made = study.run()
    assert [row["name"] for row in made] == ["few, kd", "few, lrc", "many, kd", "many, lrc"]
    assert [row["axes"] for row in made][1] == {"data": "few", "method": "lrc"}
    assert [(x, more["method"], more.get("set")) for x, _, more in ASKED] == [
        (1, "kd", {"a": 1, "b": 2}),
        (1, "lrc", {"a": 1, "b": 1}),
        (2, "kd", {"b": 2}),
        (2, "lrc", None),
    ]
    assert "axes" not in made[0]["settings"]
    ASKED.clear()
    assert study.run() == made
    assert ASKED == []


def test_variants_are_made_at_every_combination_and_their_own_settings_come_first(tmp_path: Path) -> None:
    axes = {"size": {"small": {"x": 1}, "large": {"x": 5}}}
    made = Study({"a": {}, "b": {"x": 3}}, tmp_path / "out.json", axes=axes, shared={"command": add}).run()
    assert [(row["name"], row["dev"]) for row in made] == [
        ("small, a", 1), ("small, b", 3), ("large, a", 5), ("large, b", 3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("variants", "axes", "said"),
    [
        (None, None, "expected variants or axes, got neither"),
        ({}, {}, "expected variants or axes, got neither"),
        (None, {"method": {}}, "axes: expected values of 'method', got none"),
        ({"a": {}, "b": {"of": "a"}}, {"size": {"small": {}}}, "b: expected no `of` beside axes.*places"),
        (None, {"x": {"a": {}, "a, b": {}}, "y": {"b, c": {}, "c": {}}}, "got 'a, b, c' twice"),
    ],
)
def test_axes_that_cannot_be_are_refused(tmp_path: Path, variants: Any, axes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Study(variants, tmp_path / "out.json", axes=axes)


# ---- once


def test_cells_are_made_once_and_more_seeds_and_variants_only_add(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.json"
    adding(out, a=1, b=2).run()
    assert [(x, seed) for x, seed, _ in ASKED] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert "4 of 4: b, seed 1: sum on dev 3" in capsys.readouterr().err
    made = adding(out, seeds=3, a=1, b=2, c=4).run()
    assert [(x, seed) for x, seed, _ in ASKED[4:]] == [(4, 0), (4, 1), (1, 2), (2, 2), (4, 2)]
    assert "4 of 9 cells are in" in capsys.readouterr().err
    assert [(row["name"], row["seed"], row["dev"]) for row in made] == [
        *(("a", seed, 1 + seed) for seed in range(3)),
        *(("b", seed, 2 + seed) for seed in range(3)),
        *(("c", seed, 4 + seed) for seed in range(3)),
    ]
    assert all(row["machine"]["cpu"] for row in made)
    assert made[0]["settings"] == {"command": f"{__name__}:add", "x": 1}


def test_a_cell_is_known_by_its_settings_whatever_it_is_called(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.jsonl"
    first = adding(out, a=1, b=2)
    first.run()
    ASKED.clear()
    made = adding(out, again=1.0, other=3).run()
    assert ASKED == [(3, 0, {}), (3, 1, {})]
    assert [(row["name"], row["seed"], row["dev"]) for row in made] == [
        ("again", 0, 1), ("again", 1, 2), ("other", 0, 3), ("other", 1, 4)
    ]  # fmt: skip
    assert len(rows(out)) == 6
    assert first.rows("a") == [{**row, "name": "a"} for row in made[:2]]
    folders = {first.folder((name, seed)) for name in "ab" for seed in range(2)}
    assert {folder.name for folder in folders} == {row["cell"] for row in rows(out)[:4]}
    assert "2 of 4 cells are in" in capsys.readouterr().err


def test_rows_without_a_hash_are_known_by_their_settings(tmp_path: Path) -> None:
    study = adding(tmp_path / "out.json", a=1, b=2)
    study.run()
    written = json.loads((tmp_path / "out.json").read_text())
    for row in written["rows"]:
        del row["cell"]
    (tmp_path / "out.json").write_text(json.dumps(written))
    assert study.missing(study.chosen()) == []


def test_processes_share_the_work_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastill.studies.study.PAUSE", 0.05)
    log = tmp_path / "log"
    places = {"start": {"command": slow, "what": "start", "log": str(log)}}
    variants = {name: {"what": name, "start": "{start}", "log": str(log)} for name in "abcd"}

    def work() -> None:
        Study(variants, tmp_path / "out.jsonl", shared={"command": slow}, seeds=2, places=places).run()

    context = multiprocessing.get_context("fork")
    both = [context.Process(target=work) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    done = [line.split() for line in log.read_text().splitlines()]
    assert sorted(what for what, _ in done) == sorted(["start", *"abcd", *"abcd"])  # each once
    assert done[0][0] == "start"
    assert len({process for _, process in done}) == 2  # none had nothing to do
    assert list((tmp_path / "out.runs" / ".claims").glob("*")) == []


def slow(what: str, seed: int, out: str, log: str, start: str = "") -> dict[str, Any]:
    time.sleep(0.2)
    with open(log, "a") as file:
        file.write(f"{what} {os.getpid()}\n")
    return {"dev": seed, "start": start}


def killing(folder: Path) -> None:
    """A study whose second cell, at its first attempt, kills the process."""

    def once(out: str, seed: int, x: str) -> dict[str, Any]:
        with (folder / "log").open("a") as log:
            log.write(f"{x}{seed} ")
        if (x, seed) == ("b", 0) and not (folder / "again").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"dev": seed}

    Study({"a": {"x": "a"}, "b": {"x": "b"}}, folder / "out.json", shared={"command": once}, seeds=2).run()


def test_a_killed_study_goes_on_with_the_cell_in_hand(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=killing, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert [row["name"] for row in rows(tmp_path / "out.json")] == ["a"]
    (tmp_path / "again").touch()
    killing(tmp_path)
    assert (tmp_path / "log").read_text().split() == ["a0", "b0", "b0", "a1", "b1"]
    assert len(rows(tmp_path / "out.json")) == 4


def test_a_run_that_others_need_is_made_once_before_them(tmp_path: Path) -> None:
    places = {"teacher": {"command": add, "x": 7, "seed": 3}, "tuned": {"command": add, "on": "{teacher}"}}
    variants = {"a": {"x": 1, "of_which": "{tuned}"}, "b": {"x": 2, "deep": {"list": ["{teacher}", "{file}"]}}}
    axes = {"n": {"one": {"n": 1}, "two": {"n": 2}}}

    def study(**over: Any) -> Study:
        given = {**places, "file": "f.csv", **over}
        return Study(variants, tmp_path / "out.json", axes=axes, shared={"command": add}, seeds=2, places=given)

    made = study().run()
    assert [(x, seed) for x, seed, _ in ASKED][:2] == [(7, 3), (0, 0)]
    assert len(ASKED) == 2 + 8
    assert {row["name"] for row in made} == {"one, a", "one, b", "two, a", "two, b"}
    teacher, tuned = (study().folder((name, seed)) / "model" for name, seed in (("teacher", 3), ("tuned", 0)))
    assert [more["on"] for _, _, more in ASKED if "on" in more] == [str(teacher)]
    assert {more["of_which"] for _, _, more in ASKED if "of_which" in more} == {str(tuned)}
    assert all(more["deep"] == {"list": [str(teacher), "f.csv"]} for _, _, more in ASKED if "deep" in more)
    b = next(row for row in made if row["name"] == "one, b")
    assert b["settings"]["places"] == {"teacher": {"command": f"{__name__}:add", "x": 7, "seed": 3}}
    ASKED.clear()
    study(teacher={**places["teacher"], "x": 8}).run(only=["one, a"])  # another teacher: another student of it
    assert [(x, seed) for x, seed, _ in ASKED] == [(8, 3), (0, 0), (1, 0), (1, 1)]
    ASKED.clear()
    study(teacher="elsewhere").run(only=["tuned"])
    assert ASKED == [(0, 0, {"on": "elsewhere"})]
    for wrong, said in (
        ({"teacher": {"x": "{tuned}"}}, "teacher: expected a place before it, got 'tuned'"),
        ({"tuned": {"x": "{tuned}"}}, "tuned: expected a place before it"),
        ({"one, a": {}}, "other names for places than for variants, got 'one, a' twice"),
    ):
        with pytest.raises(UserError, match=said):
            study(**wrong)


def test_a_variant_after_another_brings_it_along(tmp_path: Path) -> None:
    variants = {"a": {}, "b": {"x": 2}, "b2": {"of": "b", "start": "{of}"}, "b3": {"of": "b2", "start": "{of}"}}
    study = Study(variants, tmp_path / "out.json", shared={"command": add}, seeds=2)
    assert study.chosen(["b3"]) == [(name, seed) for seed in range(2) for name in ("b", "b2", "b3")]
    study.run(only=["b3"])
    starts = [more["start"] for _, seed, more in ASKED if "start" in more and seed == 1]
    assert starts == [str(study.folder((name, 1)) / "model") for name in ("b", "b2")]


def test_a_failing_cell_leaves_the_others_and_is_tried_again(tmp_path: Path) -> None:
    variants: dict[str, Any] = {"bad": {"x": -1}, "on": {"x": 5, "of": "bad", "start": "{of}"}, "good": {"x": 1}}
    study = Study(variants, tmp_path / "out.json", shared={"command": add})
    with pytest.raises(CheckFailed, match=r"2 of 3 cells failed.*bad, seed 0: ZeroDivisionError: no such x") as error:
        study.run()
    assert "on, seed 0: bad, its start, failed" in str(error.value)
    assert [row["name"] for row in rows(tmp_path / "out.json")] == ["good"]
    with pytest.raises(CheckFailed, match="1 of 2 cells failed"):
        study.run(only=["bad", "good"])
    assert not (tmp_path / "out.runs" / ".claims").exists() or not list((tmp_path / "out.runs/.claims").iterdir())
    assert ASKED == [(1, 0, {})]


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    def stop(seed: int, out: str) -> dict[str, Any]:
        if seed:
            raise KeyboardInterrupt
        return {"dev": 1}

    with pytest.raises(Interrupted, match="1 of 2 cells are finished; the same command continues"):
        Study({"a": {"command": stop}}, tmp_path / "out.json", seeds=2).run()
    assert len(rows(tmp_path / "out.json")) == 1


# ---- what cannot be


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"a": {"command": "destill"}}, "a: expected a command of distill, .*got 'destill'"),
        ({"a": {"command": "no.such:thing"}}, "a: command 'no.such:thing'.*imported"),
        ({"a": {"techer": "x"}}, "a: expected the settings of Distillation, got 'techer'"),
        ({"a": {"command": "contrast", "model": "x"}}, "a: missing --pairs"),
        ({"a": {"teacher": "x", "data": "{data}/x"}}, "expected a place for data"),
        ({"a": {"teacher": "x", "data": "{my data}/x"}}, "expected a place for my data"),
        ({"a": {"of": "b"}, "b": {}}, "a: expected `of` to be a variant before it, got 'b'"),
        ({"a": {"of": "a"}}, "a: expected `of` to be"),
        ({"a": {"command": add}, "b": {"command": add, "of": "a"}}, "b: it goes on from a: expected {of}"),
    ],
)
def test_variants_that_cannot_be_are_refused_before_work(tmp_path: Path, variants: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Study({"first": {"command": add}, **variants}, tmp_path / "out.json").run()
    assert ASKED == []


@pytest.mark.parametrize("place", ["", "/nowhere"])
def test_a_place_where_nothing_is_is_refused_before_work(tmp_path: Path, place: str) -> None:
    def study(data: str | list[str]) -> Study:
        variants: dict[str, Any] = {"a": {"command": add, "x": 1}, "b": {"teacher": "{model}", "data": data}}
        places = {"there": place or str(tmp_path), "model": "owner/name"}  # a name of the Hub may be there
        return Study(variants, tmp_path / "out.json", places=places)

    for data in "{there}/train.csv", ["{model}/x", "{there}/train.csv"]:
        with pytest.raises(UserError, match=r"b: data: expected {there}/train\.csv to be there.*check --place there="):
            study(data).run()
    assert ASKED == []
    (tmp_path / "train.csv").write_text("text,label\n")
    if not place:
        study("{there}/train.csv").ready(("b", 0))


@pytest.mark.parametrize("out", [".", "/", "{here}", "{here}/a file/rows.jsonl", "/proc/rows.jsonl"])
def test_rows_that_cannot_be_written_are_refused_before_work(tmp_path: Path, out: str) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(UserError, match="--out: "):
        Study({"a": {"command": add}}, out.format(here=tmp_path), runs=tmp_path / "runs").run()
    assert ASKED == []


def test_a_part_of_a_name_means_all_variants_with_these_values(tmp_path: Path) -> None:
    axes: dict[str, Any] = {
        "task": {"one": {}, "one, long": {}},
        "rate": {"low": {"rate": 1}, "high": {"rate": 2}},
        "method": {"kd": {"m": 1}, "slow": {"m": 2}},
    }

    def chosen(*only: str, variants: Any = None) -> list[str]:
        study = Study(variants, tmp_path / "out.json", axes=axes, shared={"command": add})
        return [name for name, _ in study.chosen(only)]

    assert chosen("one, low, kd") == ["one, low, kd"]
    assert chosen("one, kd") == ["one, low, kd", "one, high, kd"]
    assert chosen("one, long, slow") == ["one, long, low, slow", "one, long, high, slow"]
    assert chosen("high, kd", "one, low") == ["one, low, kd", "one, low, slow", "one, high, kd", "one, long, high, kd"]
    assert len(chosen("kd")) == 4
    assert len(chosen()) == 8
    assert chosen("one, kd, b", variants={"a": {"x": 1}, "b": {"x": 2}}) == ["one, low, kd, b", "one, high, kd, b"]
    assert len(chosen("b", variants={"a": {"x": 1}, "b": {"x": 2}})) == 8
    for text, said in (
        ("hihg, kd", "no variant 'hihg, kd'; did you mean 'high, kd'"),
        ("kd, one", "no variant"),
        ("", "no variant ''"),
    ):
        with pytest.raises(UserError, match=said):
            chosen(text)


def test_a_name_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no variant 'c'"):
        adding(tmp_path / "out.json", a=1).run(only=["c"])
    with pytest.raises(UserError, match="seeds: expected at least 1"):
        adding(tmp_path / "out.json", seeds=0, a=1)


def test_a_start_with_other_settings_is_another_start(tmp_path: Path) -> None:
    def study(x: int) -> Study:
        variants: dict[str, Any] = {"a": {"x": x}, "b": {"of": "a", "start": "{of}"}}
        return Study(variants, tmp_path / "out.json", shared={"command": add})

    study(1).run()
    ASKED.clear()
    study(2).run(only=["b"])
    assert [x for x, _, _ in ASKED] == [2, 0]


# ---- means


def test_the_table_holds_means_and_standard_deviations(tmp_path: Path) -> None:
    scores = {"kd": [0.80, 0.90, 0.70], "lrc_bert": [0.85, 0.87, 0.86]}

    def score(seed: int, out: str, values_of: list[float]) -> dict[str, Any]:
        found = {"metric": "accuracy", "dev": values_of[seed], "kept": values_of[seed] / 0.9}
        return {**found, "steps": 20, "seconds": {"training": 10.0, "checks": 2.5}}

    variants = {name: {"values_of": each} for name, each in scores.items()}
    study = Study(variants, tmp_path / "out.json", shared={"command": score}, seeds=3)
    study.run()
    head, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in study.markdown().splitlines()]
    assert head == ["variant", "seeds", "accuracy on dev", "kept %", "steps", "training s", "s"]
    for (name, values), line in zip(scores.items(), lines, strict=True):
        mean, spread = statistics.mean(values), statistics.stdev(values)
        kept = f"{100 * mean / 0.9:.2f} ± {100 * spread / 0.9:.2f}"
        assert line == [name, "3", f"{mean:.4f} ± {spread:.4f}", kept, "20", "10.00 ± 0.00", "12.50 ± 0.00"]
    assert study.best() == "lrc_bert"


def test_the_best_has_the_lowest_loss_and_metrics_are_not_mixed(tmp_path: Path) -> None:
    def loss(seed: int, out: str, value: float, metric: str = "loss") -> dict[str, Any]:
        return {"metric": metric, "dev": value}

    variants: dict[str, Any] = {"high": {"value": 2.0}, "low": {"value": 1.0}}
    study = Study(variants, tmp_path / "out.json", shared={"command": loss})
    with pytest.raises(UserError, match="got none"):
        study.best()
    study.run()
    assert study.best() == "low"
    mixed = Study(
        {**variants, "c": {"value": 3.0, "metric": "accuracy"}}, tmp_path / "out.json", shared={"command": loss}
    )
    mixed.run()
    with pytest.raises(UserError, match="expected scores on dev of one metric"):
        mixed.best()


def test_a_variant_that_lacks_a_seed_or_a_score_is_not_the_best(tmp_path: Path) -> None:
    adding(tmp_path / "out.json", seeds=1, a=1, b=5).run()
    study = adding(tmp_path / "out.json", a=1, b=5)
    study.run(only=["a"])
    assert study.best() == "a"
    silent = Study({"a": {"command": lambda seed, out: {"rows": 3}}}, tmp_path / "silent.json")
    silent.run()
    with pytest.raises(UserError, match="expected scores on dev"):
        silent.best()


# ---- runs of ours


def test_runs_are_scored_on_dev_alone_and_gone_on_with_within_a_run(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"teacher": "{teacher}", "data": str(workshop.data()), **QUICK, "epochs": 1, "keep_checkpoints": False}
    places = {"teacher": workshop.teacher()}
    study = Study({"kd": {"method": "kd"}}, tmp_path / "out.json", shared=shared, places=places)
    before = StopRequest.on_step_end

    def on_step_end(self: StopRequest, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.asked = self.asked or state.global_step == 5
        before(self, args, state, control, **more)

    monkeypatch.setattr(StopRequest, "on_step_end", on_step_end)
    with pytest.raises(Interrupted, match="0 of 1 cells are finished"):
        study.run()
    assert not (tmp_path / "out.json").exists()
    run = study.folder(("kd", 0))
    assert (run / "checkpoints/checkpoint-5").is_dir()
    monkeypatch.undo()
    (row,) = study.run()
    metrics = json.loads((run / "metrics.json").read_text())
    assert row["dev"] == metrics["student"]["dev"]["metrics"]["accuracy"]
    assert row["interval"] == metrics["student"]["dev"]["interval"]
    assert row["kept"] == metrics["kept"]["dev"]
    assert (row["steps"], row["rows"], row["metric"]) == (8, 64, "accuracy")
    assert row["teacher_forwards"] == metrics["teacher_forwards"]
    assert row["cell"] == run.name
    assert "test" in metrics["student"]
    assert "test" not in json.dumps({key: value for key, value in row.items() if key != "settings"})
    assert row["resumed"]
    assert row["settings"]["teacher"] == "{teacher}"
    assert not (run / "checkpoints").exists()
    log = (run / "log.jsonl").read_text()
    assert '"step": 8' in log


def test_a_half_made_run_of_another_teacher_is_never_taken_up(workshop: Workshop, tmp_path: Path) -> None:
    shared = {"teacher": "{teacher}", "data": str(workshop.data()), **QUICK, "epochs": 1, "method": "kd"}
    study = Study({"kd": {}}, tmp_path / "out.json", shared=shared, places={"teacher": workshop.teacher()})
    folder = study.folder(("kd", 0))
    workshop.distill(folder, method="kd", epochs=0.5)
    with pytest.raises(CheckFailed, match=rf"cannot resume.*other settings.*remove {folder}"):
        study.run()


def test_a_start_whose_model_is_gone_is_trained_again_where_a_cell_needs_it(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {**{name: value for name, value in QUICK.items() if name != "student"}, "epochs": 0.5, "checks": 1}
    tuned = {"command": "finetune", "model": workshop.encoder(), "data": str(workshop.data()), **small}
    places = {"teacher": tuned, "further": {**tuned, "model": "{teacher}"}}
    variants: dict[str, Any] = {name: {"command": add, "x": x, "on": "{further}"} for x, name in enumerate("ab")}
    study = Study(variants, tmp_path / "out.json", places=places)
    study.run(only=["a"])
    before, names = rows(tmp_path / "out.json"), ("teacher", "further")
    models = [study.model((name, 0)) / "config.json" for name in names]
    shutil.rmtree(study.runs)
    study.run(only=["a"])
    assert not any(model.is_file() for model in models)  # nothing asked for goes on from them
    capsys.readouterr()
    study.run()
    assert all(model.is_file() for model in models)
    assert capsys.readouterr().err.count("trained again, as its model is not in") == 2
    assert rows(tmp_path / "out.json")[:-1] == before
    assert [row["name"] for row in rows(tmp_path / "out.json")] == ["teacher", "further", "a", "b"]
    shutil.rmtree(study.model(("teacher", 0)))
    (tmp_path / "out.json").write_text(json.dumps({"rows": before}))
    study.run()  # the model that it needs is there
    assert not models[0].is_file()


# ---- the command


def test_the_command_makes_the_study_of_a_file(workshop: Workshop, tmp_path: Path) -> None:
    file, out = tmp_path / "variants.json", tmp_path / "out.json"
    small = {**QUICK, "epochs": 0.5, "checks": 1, "data": "{data}"}
    teacher = {"command": "finetune", "model": "{model}", **{k: v for k, v in small.items() if k != "student"}}
    variants = {
        "teacher": teacher,
        "kd": {"of": "teacher", "teacher": "{of}", **small, "about": {"what": "soft labels"}},
        "unasked": {"teacher": "x", "data": "y"},
    }
    file.write_text(json.dumps({"variants": variants, "note": "by hand"}))
    words = ["study", str(file), "--out", str(out), "--only", "teacher", "--only", "kd"]
    words += ["--place", f"model={workshop.encoder()}", "--place", f"data={workshop.data()}", "--set", "force=true"]
    words += ["--seeds", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("| variant | seeds | accuracy on dev |")
    found = json.loads(out.read_text())
    assert found["note"] == "by hand"
    assert found["command"].startswith("contrastill study ")
    assert found["machine"]["cpu"]
    tuned, student = found["rows"]
    assert student["settings"]["of"] == tuned["settings"]
    assert student["about"] == {"what": "soft labels"}
    assert (student["settings"]["force"], student["settings"]["data"]) == (True, "{data}")
    assert (tmp_path / "out.runs" / student["cell"] / "student/config.json").is_file()
    again = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(again.stdout)["rows"] == found["rows"]


def test_the_command_crosses_the_axes_of_a_file(tmp_path: Path) -> None:
    axes = {"size": {"small": {"x": 1}, "large": {"x": 5}}}
    (tmp_path / "v.json").write_text(json.dumps({"axes": axes, "shared": {"command": f"{__name__}:add"}}))
    words = ["study", str(tmp_path / "v.json"), "--out", str(tmp_path / "out.json"), "--set", "y=7", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["rows"]
    assert [(row["name"], row["dev"], row["axes"]["size"]) for row in found] == [
        ("small", 1, "small"), ("large", 5, "large")
    ]  # fmt: skip
    assert [more["y"] for _, _, more in ASKED] == [7, 7]
    shown = CliRunner().invoke(app, [*words[:-1], "--by", "size", "--to", "large"]).stdout
    assert "| sum on dev | small | large |" in shown
    assert "|  | small | -4.0000 |  | 0 of 1 | one seed: nothing is told |" in shown
    drawn = CliRunner().invoke(app, [*words[:-1], "--by", "size", "--plot", str(tmp_path / "new" / "size.svg")])
    assert drawn.exit_code == 0, drawn.output
    assert ">large (1 of 1)<" in (tmp_path / "new" / "size.svg").read_text()
    ASKED.clear()
    for more, said in (
        (["--by", "sise"], "--by: expected an axis ('size', 'variant'), got 'sise'"),
        (["--by", "size", "--to", "huge"], "--to: expected a value of size ('small', 'large'), got 'huge'"),
        (["--to", "small"], "give the axis too"),
    ):
        refused = CliRunner().invoke(app, [*words[:3], str(tmp_path / "other.json"), *more])
        assert refused.exit_code == 2
        assert said in " ".join(refused.stderr.split())
    assert ASKED == []


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("{", [], "expected a JSON object"),
        ('{"a": {}}', [], 'expected {"variants"'),
        ('{"variants": {"a": 1}}', [], 'expected {"variants"'),
        ('{"variants": {}, "shared": []}', [], 'expected {"variants"'),
        ('{"axes": {"method": {"kd": 1}}}', [], 'expected {"variants"'),
        ('{"axes": ["kd"]}', [], 'expected {"variants"'),
        ('{"axes": {"m": {"kd": {}}}, "places": 1}', [], '"places": {name: path or settings}'),
        ('{"variants": {"a": {}}}', ["--by", "variant", "--plot", "x.gif"], "a file that ends in .svg, .png, .pdf"),
        ('{"variants": {"a": {}}}', ["--plot", "x.svg"], "--plot shows differences of --by"),
        ('{"variants": {"a": {}}}', ["--set", "x"], "--set: expected name=value"),
    ],
)
def test_a_file_or_option_that_cannot_be_is_refused(tmp_path: Path, content: str, more: list[str], said: str) -> None:
    (tmp_path / "v.json").write_text(content)
    done = CliRunner().invoke(app, ["study", str(tmp_path / "v.json"), "--out", str(tmp_path / "out.json"), *more])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert not os.path.exists(tmp_path / "out.json")
