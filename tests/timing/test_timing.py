"""`contrastill bench`: figures from rounds, workers that end, rows that say what was timed."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

import warm
from contrastill.bundle import FORMAT, available
from contrastill.cli import app
from contrastill.errors import UserError
from contrastill.seal import SEAL, seal_of
from contrastill.settings import Bench, DataSource
from contrastill.tasks import load_rows
from contrastill.timing import bench, compare, variants
from contrastill.timing import process as process_module
from contrastill.timing.figures import figures, ratio, value
from contrastill.timing.process import Failed, Process
from contrastill.timing.table import HEAD, cells, fastest, groups, print_table
from contrastill.timing.worker import BLOCK, Worker, rest

SMALL, SMALLER = "random:2/32/2/64", "random:1/16/2/32"
CASE = {"length": 8, "batch": 1, "texts": None}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Turns of no length: one pass over the calls."""
    monkeypatch.setattr(compare, "TURN", 0.0)


@pytest.fixture(autouse=True)
def warm_workers(monkeypatch):
    """Each imports the libraries anew otherwise; tests that are about a worker's own start undo it."""
    monkeypatch.setattr(process_module, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": warm_worker}))


def warm_worker(command, **options):
    start = warm.Popen if "contrastill.timing.worker" in command else subprocess.Popen
    return start(command, **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return variants.random_model(SMALL, tmp_path_factory.mktemp("model"))


# ---- figures


def test_a_rounds_value_is_the_mean_over_calls_of_each_ones_median_over_repeats():
    assert value([[1.0, 10.0], [3.0, 20.0], [2.0, 900.0]]) == (2.0 + 20.0) / 2


def test_percentiles_are_over_all_calls_and_throughput_is_of_the_median_round():
    turns = [[[2.0]], [[4.0]], [[6.0], [6.0]]]
    found = figures(turns, batch=8)
    assert found["calls"] == 4
    assert found["p50_ms"] == 5.0
    assert found["rounds_ms"] == [2.0, 4.0, 6.0]
    assert found["throughput_per_s"] == 1000 * 8 / 4
    assert found["spread"] == (5 - 3) / 4


def test_a_disturbance_of_whole_rounds_leaves_the_ratio_and_its_interval_narrow():
    noise = np.random.default_rng(0).uniform(1, 3, 40)
    found, (low, high) = ratio(6 * noise, 2 * noise)
    assert found == low == high == 3.0
    _, (low, high) = ratio(6 * noise, 2 * np.random.default_rng(1).uniform(1, 3, 40))
    assert low < 2.9
    assert high > 3.1


# ---- a worker


class Counting:
    """A model whose calls note the texts they are of."""

    max_length = 64

    def __init__(self):
        self.seen = []

    def lengths(self, texts):
        return [len(text) for text in texts]

    def on_texts(self, texts):
        return lambda: self.seen.append(texts)

    def first_pass(self, calls):
        for call in calls:
            call()


def test_a_turn_on_texts_holds_short_and_long_ones_and_each_text_is_in_one_block():
    worker, texts = Worker(), ["x" * (1 + n) for n in range(5 * BLOCK)]
    worker.model, worker.bare = Counting(), 0.0
    prepared = worker.prepare({"length": "data", "batch": 1, "texts": texts})
    assert prepared["tokens"] == np.mean([len(text) for text in texts])
    assert worker.model.seen == [[text] for text in reversed(texts)]
    timed = []
    for block in range(5):
        worker.model.seen.clear()
        assert np.array(worker.turn(block, 0.0)["ms"]).shape == (1, BLOCK)
        timed.append([len(text) for (text,) in worker.model.seen[1:]])  # the first call warms
        assert worker.model.seen[0] == worker.model.seen[1]
    assert sorted(n for block in timed for n in block) == list(range(1, len(texts) + 1))
    assert max(np.mean(block) for block in timed) - min(np.mean(block) for block in timed) < BLOCK
    assert worker.turn(5, 0.0) is not None
    assert [len(text) for (text,) in worker.model.seen[-BLOCK:]] == timed[0]


def test_batches_are_of_texts_of_like_length():
    worker, texts = Worker(), ["x" * (1 + n * 7 % 20) for n in range(20)]
    worker.model, worker.bare = Counting(), 0.0
    worker.prepare({"length": "data", "batch": 8, "texts": texts})
    assert [[len(text) for text in batch] for batch in worker.model.seen] == [
        list(range(20, 12, -1)),
        list(range(12, 4, -1)),
        list(range(4, 0, -1)),
    ]


def test_operations_are_those_of_the_matrix_products_attention_included(model):
    layers, width, ffn, length, batch = 2, 32, 64, 8, 3
    case = {"length": length, "batch": batch, "texts": None}
    about = {"source": model, "runtime": "torch", "precision": "fp32", "threads": 1, "workers": 1, "cores": [0]}
    with Process(1) as process:
        process.ask("load", **about, case=case)
        found = process.ask("prepare", case=case)["gflops"]
    tokens = batch * length
    a_layer = 2 * tokens * (4 * width * width + 2 * width * ffn) + 2 * 2 * batch * length * length * width
    head = 2 * batch * (width * width + width * 2)
    assert found == pytest.approx((layers * a_layer + head) / 1e9)


def test_a_worker_answers_when_its_threads_are_asleep():
    assert rest()
    with Process(1) as process:
        started = psutil.Process(process.process.pid)
        with pytest.raises(Failed, match="AttributeError"):
            process.ask("nonsense")  # an answer, all the same
        before = sum(started.cpu_times()[:2])
        time.sleep(0.2)
        assert sum(started.cpu_times()[:2]) - before <= 0.02


def test_a_worker_ends_with_its_parent_and_one_that_died_says_how():
    with Process(1) as process:
        process.process.send_signal(signal.SIGKILL)
        process.process.wait()
        with pytest.raises(Failed, match="signal 9"):
            process.ask("load")
    with Process(1) as process:
        pid = process.process.pid
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_an_answer_that_the_end_of_its_process_cut_off_is_none():
    with Process(1) as process:
        process.process.kill()
        process.process.communicate()
        half = "import os; print('{\"ms\": [[1.2', end='', flush=True); os.kill(os.getpid(), 9)"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process.process = subprocess.Popen([sys.executable, "-c", half], **pipes)
        with pytest.raises(Failed, match="signal 9"):
            process.ask("turn")


def test_a_worker_ends_with_its_parent_in_the_middle_of_a_call():
    code = "import time; from contrastill.timing.worker import asked\n"
    code += "for _ in asked(): print('at it', flush=True), time.sleep(99)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdin.write("{}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "at it\n"
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_worker_imports_what_its_parent_would_and_nothing_of_the_folder_it_is_called_in(tmp_path, monkeypatch):
    monkeypatch.setattr(process_module, "subprocess", subprocess)
    (tmp_path / "random.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with Process(1) as process, pytest.raises(Failed, match="no attribute 'nonsense'"):
        process.ask("nonsense")


# ---- the whole


def test_every_row_says_what_it_is_and_what_it_is_compared_with(tmp_path, monkeypatch):
    monkeypatch.setattr(process_module, "subprocess", subprocess)  # imports and memory are those of a cold start
    out, texts = tmp_path / "bench.json", tmp_path / "texts.txt"
    texts.write_text("\n".join(" ".join(["word"] * n) for n in range(1, 20)))
    asked = {"model": [SMALL, f"student={SMALLER}"], "precision": ["fp32"], "runtime": ["torch", "openvino"]}
    found = bench(**asked, length=[8], texts=str(texts), batch=[1, 4], threads=2, seconds=0.01, out=str(out))
    assert json.loads(out.read_text()) == json.loads(json.dumps(found))
    rows = found["rows"]
    assert [row for row in rows if "error" in row] == []
    # 2 models, 2 runtimes, 2 lengths, 2 batches; and OpenVINO's two streams, of batches alone
    assert len(rows) == 2 * 2 * 2 * 2 + 2 * 2
    assert {row["workers"] for row in rows if row["batch"] == 1 or row["runtime"] != "openvino"} == {1}
    assert found["yardstick"] == {"model": "2/32/2/64", "runtime": "torch", "precision": "fp32", "workers": 1}
    for row in rows:
        assert row["calls"] >= compare.LEAST == len(row["rounds_ms"])
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["load_s"] > 0 < row["imports_s"]
        assert row["file_mb"] > 0 < row["memory_mb"]
        assert row["gflops"] > 0
        low, high = row["ratio_interval"]
        assert low <= row["ratio"] <= high
        assert row["exported"] is (row["runtime"] != "torch")
        assert row["tokens"] == (8 if row["length"] == 8 else 10)  # no runtime's padding is counted
    teacher = next(row for row in rows if row["role"] == "teacher")
    assert teacher["ratio"] == teacher["same_ratio"] == 1.0
    assert {row["model"] for row in rows if row["role"] == "student"} == {"student"}
    assert str(tmp_path) not in json.dumps(found["settings"]) + json.dumps(rows)
    assert found["command"].startswith("contrastill bench --model random:2/32/2/64 --model student=")


def test_a_model_that_fails_gets_a_row_with_its_error_and_the_rest_goes_on(monkeypatch, tmp_path):
    real, killed = Process.ask, []

    def ask(self, do, **what):
        if do == "load" and what["precision"] == "bf16" and not killed:
            killed.append(self.process.pid)
            os.kill(self.process.pid, signal.SIGKILL)
        return real(self, do, **what)

    monkeypatch.setattr(Process, "ask", ask)
    monkeypatch.setattr("contrastill.machine.bf16_pays", lambda: True)
    texts = tmp_path / "texts.txt"
    texts.write_text("w1 w2\nw3")
    found = bench(
        model=[SMALL], runtime=["torch"], precision=["fp32", "bf16"], length=[600], texts=str(texts), batch=[1],
        seconds=0.01,
    )  # fmt: skip
    errors = {(row["precision"], row["length"]): row.get("error") for row in found["rows"]}
    assert errors["fp32", 600] == "reads at most 512 tokens, not 600"
    assert errors["fp32", "data"] is None
    assert "signal 9" in errors["bf16", 600]
    assert "signal 9" in errors["bf16", "data"]
    assert len(killed) == 1
    assert {len(cells(row)) for row in found["rows"]} == {len(HEAD)}


def test_where_the_yardstick_failed_there_is_no_ratio_to_another():
    same = {"model": "a", "precision": "fp32", "batch": 1, "workers": 1}
    good = [
        {**same, "runtime": runtime, "length": length, "rounds_ms": [ms] * 5}
        for runtime, length, ms in (("torch", 8, 4.0), ("onnxruntime", 8, 2.0), ("onnxruntime", 600, 50.0))
    ]
    rows = [*good, {**same, "runtime": "torch", "length": 600, "error": "killed"}]
    rule = compare.add_ratios(rows, "a")
    assert rule == {"model": "a", "runtime": "torch", "precision": "fp32", "workers": 1}
    assert [row["ratio"] for row in good] == [1.0, 2.0, None]
    assert good[2]["same_ratio"] == 1.0
    assert "ratio" not in rows[3]


def test_batches_that_the_texts_do_not_fill_are_said_and_a_result_that_cannot_be_written_is_not_lost(
    tmp_path, monkeypatch
):
    texts, place = tmp_path / "texts.txt", tmp_path / "place"
    texts.write_text("w1\nw2\nw3")
    place.mkdir()
    monkeypatch.setattr(compare, "timed", lambda *_: place.rmdir() or [])
    with pytest.raises(UserError) as caught:
        bench(model=[SMALL], runtime=["torch"], precision=["fp32"], texts=str(texts), out=str(place / "x.json"))
    said, _, written = str(caught.value).partition("it is\n")
    assert "x.json: the result could not be written (No such file" in said
    found = json.loads(written)
    assert found["texts"] == 3
    assert any(line == "--batch 32: there are 3 texts, so these batches hold no more" for line in found["warnings"])


def test_an_exporter_that_fails_leaves_out_its_file_alone(monkeypatch, tmp_path):
    def bundle(self, runtime, precision):
        raise RuntimeError("unsupported\nnode")

    monkeypatch.setattr(variants.Exports, "bundle", bundle)
    asked = Bench(model=[SMALL], runtime=["torch", "openvino"], precision=["fp32"])
    found, left_out = variants.variants(asked, [("a", SMALL)], [], 1, tmp_path)
    assert [one.runtime for one in found] == ["torch"]
    assert left_out == ["a, openvino fp32: RuntimeError: unsupported node"]


def test_a_worker_that_hangs_is_ended_and_said_to_be_late(monkeypatch):
    monkeypatch.setattr("contrastill.timing.process.DEADLINE", 0.3)
    with Process(1) as worker:
        os.kill(worker.process.pid, signal.SIGSTOP)
        with pytest.raises(Failed, match=r"did not answer within 0\.3 seconds, and was stopped"):
            worker.ask("turn", block=0, seconds=0)


@pytest.mark.parametrize(
    ("load", "spreads", "doubts"),
    [
        (0.5, (0.1, 0.1), [None, None]),
        (2.5, (0.1, 0.1), ["the machine was busy, with a load of 2.5 on 2 cores before"] * 2),
        (0.5, (0.4, 0.1), ["the rounds differ by 40%"] * 2),  # the yardstick's: every ratio is of them
        (0.5, (0.1, 0.4), [None, "the rounds differ by 40%"]),
    ],
)
def test_a_ratio_is_in_doubt_where_the_machine_was_busy_or_rounds_differ(load, spreads, doubts):
    rule = {"model": "a", "runtime": "torch", "precision": "fp32", "workers": 1}
    rows = [rule | {"model": m, "length": 8, "batch": 1, "spread": s} for m, s in zip("ab", spreads, strict=True)]
    rows.append({"error": "ended"})
    compare.add_doubts(rows, rule, load, 2)
    assert [row.get("doubt") for row in rows] == [*doubts, None]


def test_of_two_bundles_of_one_name_and_kind_the_second_is_left_out_and_named(tmp_path):
    facts = {"format": FORMAT, "name": "a", "task": "classification", "labels": ["x", "y"], "texts": 1, "max_length": 8}
    facts |= {"runtime": "onnxruntime", "precision": "int8", "file": "model.onnx", "output": "p"}
    facts |= {
        "inputs": ["input_ids"],
        "files": {n: {"bytes": 10**6, "sha256": ""} for n in ("model.onnx", "tokenizer.json")},
    }
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").write_text(json.dumps(facts | {SEAL: seal_of(facts)}))
    given = [str(tmp_path / name) for name in ("one", "one", "two")]
    models = variants.named_models(Bench(model=given))
    assert models == [("a", given[0]), ("a", given[2])]
    found, left_out = variants.variants(Bench(model=given), models, [], 1, tmp_path)
    assert [(one.source, one.file_mb) for one in found] == [(given[0], 1.0)]
    assert left_out == [
        "a, onnxruntime int8: given twice, so two is not timed; give it a name with --model NAME=FOLDER"
    ]


def test_what_does_not_exist_is_left_out_with_the_reason():
    found = bench(model=[SMALL], runtime=["torch", "onnx"], precision=["fp32", "int8", "bf16"], length=[8], batch=[1],
                  seconds=0.01)  # fmt: skip
    assert any("torch int8: PyTorch has no" in line for line in found["left_out"])
    assert any("onnxruntime bf16: ONNX Runtime computes no" in line for line in found["left_out"])
    assert ("onnxruntime", "int8") in {
        (row["runtime"], row["precision"]) for row in found["rows"] if "error" not in row
    }
    assert found["int8_calibrated_on"] == "random tokens"


def test_a_busy_machine_and_too_many_threads_are_said(monkeypatch):
    monkeypatch.setattr(psutil, "getloadavg", lambda: (50.0, 1.0, 1.0))
    found = bench(model=[SMALL], runtime=["torch"], precision=["fp32"], length=[8], batch=[1], seconds=0.01,
                  threads=available() + 1)  # fmt: skip
    assert found["load_average"][0] == 50.0
    assert [("busy" in line, "more than the" in line) for line in found["warnings"]] == [(True, False), (False, True)]


def test_the_texts_of_a_run_are_read_as_the_run_read_them(tmp_path):
    texts = [f"{n} text,{'|'.join('ab'[: n % 3])}" for n in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["words,answer", *texts]) + "\n")
    settings = {
        "data": str(tmp_path / "rows.csv"),
        "text": "words",
        "label": "answer",
        "task": "multilabel",
        "separator": "|",
    }
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings | {"seed": 3, "method": "kd"}}))
    own = DataSource(**settings)
    rows = load_rows(own.data, **own.reading()).splits["dev"]
    assert sorted(variants.texts_of(Bench(run=str(tmp_path)), [])) == sorted(rows["text"])


def test_a_run_is_timed_on_its_own_dev_texts_beside_its_bundles(tmp_path, model):
    from contrastill.exporting import build, exportable

    run = tmp_path / "run"
    data = tmp_path / "data"
    data.mkdir()
    for split, count in (("train", 30), ("dev", 12)):
        lines = [f"{split} text {'w ' * (n % 5)},{n % 2}" for n in range(count)]
        (data / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    variants.random_model(SMALLER, run / "student")
    bundle = build(exportable(str(run / "student")), run / "exports" / "a", to="onnx", precision="fp32")
    shutil.copytree(bundle, run / "exports" / ".export-1" / "fp32")  # one that is being made
    record = {"settings": {"data": str(data), "teacher": model, "encoding": "utf-8", "seed": 0}}
    (run / "run.json").write_text(json.dumps(record))
    texts = variants.texts_of(Bench(run=str(run)), [])
    assert len(texts) == 12
    assert all(text.startswith("dev text") for text in texts)
    found = bench(run=str(run), precision=["fp32"], batch=[1], seconds=0.01)
    assert [(row["model"], row["runtime"], row["length"], row["exported"]) for row in found["rows"]] == [
        ("teacher", "torch", "data", False),
        ("student", "torch", "data", False),
        ("student", "onnxruntime", "data", False),
    ]
    assert json.loads((run / "bench.json").read_text())["texts"] == 12
    data.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"the run's own data: expected .* or give --texts"):
        bench(run=str(run))


# ---- what is asked for


def test_the_command_can_be_run_again():
    asked = Bench(model=["a b", "c"], length=[8, 16], streams=False, out="x.json")
    expected = "contrastill bench --model 'a b' --model c --no-streams --length 8 --length 16 --out x.json"
    assert compare.command(asked) == expected


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "expected models to time"),
        ({"model": [SMALL], "batch": [0]}, "--batch: expected a whole number from 1 to"),
        ({"model": [SMALL], "runtime": ["tensorrt"]}, "--runtime: expected one of"),
        ({"model": [SMALL], "seconds": 0}, "--seconds: expected a number above 0"),
        ({"model": ["/no/such/model"]}, "found nothing at"),
        ({"model": ["random:13L"]}, "13"),
        ({"model": [f"a={SMALL}", f"a={SMALLER}"]}, "a name of its own"),
        ({"model": ["a="]}, "NAME=FOLDER or random:SHAPE, got 'a='"),
        ({"model": ["random:"]}, "NAME=FOLDER or random:SHAPE, got 'random:'"),
        ({"model": [SMALL], "texts": "no-such-file.txt"}, "no-such-file.txt"),
        ({"model": [SMALL], "out": "/no/such/folder/x.json"}, "found none; make it"),
        ({"model": [SMALL], "out": "/"}, "got the folder /"),
        ({"model": [SMALL], "out": "/dev/null"}, "expected a file, got /dev/null"),
        ({"run": "/no/such/run"}, "expected the run.json of a finished or interrupted run, found no such file"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_timed(monkeypatch, asked, said):
    monkeypatch.setattr(compare, "timed", None)
    with pytest.raises(UserError, match=said):
        bench(**asked)


def test_the_command_line_prints_json_alone_and_a_table_without(monkeypatch):
    assert CliRunner().invoke(app, ["bench"]).exit_code == 2
    args = ["bench", "--model", SMALL, "--runtime", "torch", "--precision", "fp32", "--length", "8", "--batch", "1"]
    done = CliRunner().invoke(app, [*args, "--seconds", "0.01", "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["rows"]) == 1
    monkeypatch.setattr("contrastill.timing.bench", lambda **_: found)
    done = CliRunner().invoke(app, [*args, "--seconds", "0.01"])
    assert "8 tokens, one text" in done.stdout
    assert "x faster: than 2/32/2/64, torch fp32" in done.stdout


def ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # where nobody buries it
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_ctrl_c_and_a_kill_leave_no_process_and_no_folder(tmp_path, number, code):
    args = ["--model", SMALL, "--runtime", "torch", "--precision", "fp32", "--length", "8", "--seconds", "60"]
    process = warm.Popen(
        [sys.executable, "-m", "contrastill", "bench", *args],
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "timing" in line:
            break
    children = psutil.Process(process.pid).children()
    assert len(children) == 2  # the worker, and what deletes the folder
    assert len(list(tmp_path.glob("contrastill-bench-*/0/model"))) == 1
    process.send_signal(number)
    assert process.wait(20) == code
    stop = time.monotonic() + 10
    while not all(ended(child) for child in children):
        assert time.monotonic() < stop
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_the_fastest_of_each_model_is_marked():
    def row(model, pace, **more):
        return {"model": model, "length": 8, "batch": 1, "throughput_per_s": pace, **more}

    failed = {"model": "c", "length": 8, "batch": 1, "error": "killed"}
    rows = [row("a", 1), row("a", 3), row("b", 2), failed, row("b", 1, length=9)]
    first, second = groups(rows)
    assert [r["throughput_per_s"] for r in sorted(fastest(first), key=lambda r: r["model"])] == [3, 2]
    assert len(second) == 1


def test_a_narrow_screen_shows_fewer_columns_and_cuts_no_cell(monkeypatch, capsys):
    result = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "speed_paper.json").read_text())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(result)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, shown.splitlines()[:20])) <= 80
    assert "onnxruntime" in shown
    assert "2,407" in shown
    assert re.search(r"60\.6 +58\.3 to", shown)
    assert "…" not in shown
    assert "On a wider screen" in shown
    monkeypatch.setenv("COLUMNS", "150")
    print_table(result)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "4L-312" in shown
    assert "715" in shown
    assert "On a wider screen" not in shown


def test_the_page_of_benchmarks_shows_every_row_and_the_command(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")  # as `python benchmarks/tables.py` has it
    tables = importlib.import_module("tables")
    head = {"runtime": "torch", "precision": "fp32", "length": 128, "batch": 1, "workers": 1}
    about = {"load_s": 1.0, "memory_mb": 1.0, "file_mb": None, "gflops": 22.5}
    rows = [
        {"model": name, "role": role, **head, **figures([[[ms]]] * 5, 1), **about}
        for name, role, ms in (("big", "teacher", 12.0), ("small", "student", 1.25))
    ]
    rows.append({"model": "broken", "role": "student", **head, "error": "killed"})
    compare.add_ratios(rows, "big")
    page = tables.PARTS["speed_paper"](
        {
            "rows": rows,
            "yardstick": compare.yardstick(rows, "big"),
            "machine": {"cpu": "a processor", "torch_threads": 2, "torch": "2"},
            "threads": 2,
            "versions": {"torch": "2"},
            "load_average": [0.1],
            "warnings": ["busy"],
            "left_out": [],
            "command": "contrastill bench --model big",
        }
    )
    assert "**small** | **torch fp32** | **1.25** | **1.25** | **1.25** | **0%** | **800** | **9.60**" in page
    assert "| broken | torch fp32 | failed |" in page
    assert "- busy" in page
    assert "`contrastill bench --model big`" in page


def test_importing_the_part_needs_no_torch():
    code = "import contrastill.timing.worker, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    assert Path(variants.__file__).parent.name == "timing"
