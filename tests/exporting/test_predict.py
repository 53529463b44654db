"""`contrastill predict`: each row of a file is answered once, in its place, or refused before work starts."""

import csv
import gzip
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_model import Fake
from tiny_models import CLASSES, sentences
from typer.testing import CliRunner

from contrastill import UserError
from contrastill.answers import answer_of
from contrastill.bundle import open_bundle
from contrastill.cli import app
from contrastill.exporting import exportable
from contrastill.prediction import predict, run

TEXTS = sentences(9)
ROWS = [{"id": f"r{n}", "text": text, "n": n} for n, text in enumerate(TEXTS)]


def as_csv(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> None:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)


LINES, OBJECTS = "".join(f"{text}\n" for text in TEXTS), "".join(json.dumps(row) + "\n" for row in ROWS)
INPUTS: dict[str, Callable[[Path], object]] = {
    "a.txt": lambda path: path.write_text(LINES + "\n\n"),
    "a.csv": as_csv,
    "a.tsv": lambda path: as_csv(path, "\t"),
    "semicolons.csv": lambda path: as_csv(path, ";"),
    "a.jsonl": lambda path: path.write_text(OBJECTS),
    "a.json": lambda path: path.write_text(json.dumps(ROWS)),
    "a.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(OBJECTS.encode())),
    "a.txt.xz": lambda path: path.write_bytes(lzma.compress(LINES.encode())),
}


def answers(out: Path) -> list[dict[str, Any]]:
    opened: Any = {".gz": gzip.open, ".xz": lzma.open}.get(out.suffix, open)
    if out.suffix == ".parquet":
        return pq.read_table(out).to_pylist()
    with opened(out, "rt", encoding="utf-8", newline="") as file:
        if ".jsonl" in out.name:
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file, delimiter="\t" if ".tsv" in out.name else ","))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    model = Fake()
    monkeypatch.setattr(run, "open_model", lambda settings, pairs: model)
    monkeypatch.setattr(run, "column_names", lambda settings: (None, None))
    return model


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    as_csv(path)
    return path


# ---- what is read, and by which model


@pytest.mark.parametrize("name", INPUTS)
def test_each_kind_of_file_is_answered_row_by_row(bundle_of: Callable[..., Path], tmp_path: Path, name: str) -> None:
    INPUTS[name](tmp_path / name)
    bundle = bundle_of()
    made = predict(model=str(bundle), data=str(tmp_path / name), out=str(tmp_path / "out.jsonl"))
    assert (made.rows, made.skipped, made.task) == (9, 0, "classification")
    found, expected = answers(tmp_path / "out.jsonl"), open_bundle(bundle).run(TEXTS)
    assert [row["label"] for row in found] == [CLASSES[n] for n in expected.argmax(1)]
    assert [row["score"] for row in found] == pytest.approx(expected.max(1).tolist(), abs=1e-6)
    if "txt" not in name:
        assert [row["id"] for row in found] == [row["id"] for row in ROWS]  # kept by itself


def test_a_model_answers_as_its_bundle_does_and_as_evaluate_reads_it(
    tiny_folder: Callable[..., Path], bundle_of: Callable[..., Path], rows: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / "model.jsonl", tmp_path / "bundle.jsonl"]
    for model, out in zip((tiny_folder(), bundle_of()), outs, strict=True):
        predict(model=str(model), data=str(rows), out=str(out), probabilities=True)
    ours, theirs = (np.array([list(row["probabilities"].values()) for row in answers(out)]) for out in outs)
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(ours - exportable(str(tiny_folder())).run(TEXTS)).max() < 1e-5


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_vectors(bundle_of: Callable[..., Path], rows: Path, tmp_path: Path, suffix: str) -> None:
    bundle, out = bundle_of("embedder"), tmp_path / f"out{suffix}"
    predict(model=str(bundle), data=str(rows), out=str(out))
    found = np.array([row["vector"] for row in answers(out)])
    assert np.abs(found - open_bundle(bundle).run(TEXTS)).max() < 1e-6
    with pytest.raises(UserError, match=r"expected \.parquet or \.jsonl for vectors, got 'out\.csv'"):
        predict(model=str(bundle), data=str(rows), out=str(tmp_path / "out.csv"))


def test_scores_have_no_classes(tiny_folder: Callable[..., Path], rows: Path, tmp_path: Path) -> None:
    model = str(tiny_folder(classes=1))
    predict(model=model, data=str(rows), out=str(tmp_path / "out.csv"))
    found = answers(tmp_path / "out.csv")
    assert [float(row["score"]) for row in found] == pytest.approx(
        exportable(model).run(TEXTS)[:, 0].tolist(), abs=1e-5
    )
    assert list(found[0]) == ["id", "score"]
    with pytest.raises(UserError, match=r"expected a model with classes, got one that answers one score"):
        predict(model=model, data=str(rows), out=str(tmp_path / "b.csv"), probabilities=True)


def test_pairs_are_read_by_a_bundle_of_pairs_alone(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    data, out, bundle = tmp_path / "pairs.csv", tmp_path / "out.jsonl", bundle_of("bert", pairs=True)
    data.write_text("a,b\n" + "".join(f"{one},{two}\n" for one, two in zip(TEXTS, TEXTS[::-1], strict=True)))
    predict(model=str(bundle), data=str(data), text="a", text_pair="b", out=str(out))
    expected = open_bundle(bundle).run(list(zip(TEXTS, TEXTS[::-1], strict=True)))
    assert [row["score"] for row in answers(out)] == pytest.approx(expected.max(1).tolist(), abs=1e-6)
    with pytest.raises(UserError, match=r"expected pairs: give --text and --text-pair"):
        predict(model=str(bundle), data=str(data), text="a", out=str(tmp_path / "b.jsonl"))
    with pytest.raises(UserError, match=r"expected single texts: leave out --text-pair"):
        predict(model=str(bundle_of()), data=str(data), text="a", text_pair="b", out=str(tmp_path / "b.jsonl"))


@pytest.fixture
def made_by_run(tiny_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    def make(**settings: Any) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        shutil.copytree(tiny_folder(), folder / "student")
        (folder / "run.json").write_text(json.dumps({"command": "distill", "settings": settings}))
        return folder

    return make


def test_the_columns_of_the_run_are_those_of_a_file_that_has_them(
    made_by_run: Callable[..., Path], rows: Path, tmp_path: Path
) -> None:
    run_folder, out = made_by_run(text="query"), tmp_path / "out.jsonl"
    predict(model=str(run_folder), data=str(rows), out=str(out))  # it has "text" alone
    other = tmp_path / "queries.csv"
    other.write_text(rows.read_text().replace("id,text,n", "id,query,text"))
    predict(model=str(run_folder), data=str(other), out=str(tmp_path / "b.jsonl"))
    assert answers(tmp_path / "b.jsonl") == answers(out)


@pytest.mark.parametrize("settings", [{"text": "a", "text_pair": "b"}, {"data": "glue/mrpc"}])
def test_a_model_of_pairs_is_not_given_single_texts(
    made_by_run: Callable[..., Path], rows: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    with pytest.raises(UserError, match=r"expected two texts a row for a model of pairs; name their columns"):
        predict(model=str(made_by_run(**settings)), data=str(rows), out=str(tmp_path / "out.jsonl"))


def test_a_bundle_is_run_where_there_is_no_torch(bundle_of: Callable[..., Path], rows: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'pandas', 'datasets', 'pyarrow'): sys.modules[name] = None\n"
        f"import contrastill\nprint(contrastill.predict(model={str(bundle_of())!r}, data={str(rows)!r}, "
        f"out={str(tmp_path / 'out.csv')!r}).rows)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "9", done.stderr


# ---- what is written


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.tsv", "o.parquet", "o.jsonl.gz", "o.csv.xz"])
def test_each_file_of_answers_says_the_same(fake: Fake, rows: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    made = predict(model="m", data=str(rows), out=str(out), top=2, probabilities=True, keep=["n", "id"])
    assert (made.out, made.rows) == (str(out), 9)
    found = answers(out)
    first = TEXTS[0]
    probabilities = np.roll([0.5, 0.25, 0.25], ord(first[0]))
    order = np.argsort(-probabilities, kind="stable")
    if "jsonl" in name:
        top = [{"label": CLASSES[n], "score": probabilities[n]} for n in order[:2]]
        every = dict(zip(CLASSES, probabilities, strict=True))
        assert found[0] == {"n": "0", "id": "r0", **top[0], "top": top, "probabilities": every}
    else:
        wanted = {"n": "0", "id": "r0", "label": CLASSES[order[0]], "score": 0.5}
        wanted |= {"label_2": CLASSES[order[1]], "score_2": 0.25}
        wanted |= {f"probability_{name}": value for name, value in zip(CLASSES, probabilities, strict=True)}
        assert list(found[0]) == list(wanted)
        assert found[0] == ({key: str(value) for key, value in wanted.items()} if "parquet" not in name else wanted)
    assert [row["id"] for row in found] == [row["id"] for row in ROWS]
    assert not (tmp_path / f"{name}.part").exists()


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_a_text_of_several_labels_or_none_has_a_row_too(fake: Fake, rows: Path, tmp_path: Path, name: str) -> None:
    about = {"task": "multilabel", "labels": CLASSES, "dimensions": None, "thresholds": [0.2, 0.4, 0.6]}
    fake.answer = answer_of(about)
    predict(model="m", data=str(rows), out=str(tmp_path / name), top=2)
    found = answers(tmp_path / name)
    assert [row["id"] for row in found] == [row["id"] for row in ROWS]
    for text, row in zip(TEXTS, found, strict=True):
        values = np.roll([0.5, 0.25, 0.25], ord(text[0]))
        labels = row["labels"] if isinstance(row["labels"], list) else json.loads(row["labels"])
        assert set(labels) == {CLASSES[n] for n in range(3) if values[n] > about["thresholds"][n]}  # type: ignore[index]
        if "jsonl" not in name:
            assert row["label_1"] == CLASSES[int(values.argmax())]
            assert {"label_2", "score_1", "score_2"} < set(row)


def test_kept_columns_have_their_kinds_in_parquet(fake: Fake, tmp_path: Path) -> None:
    kept = {
        "whole": [1, None, 3], "number": [1, 2.5, None], "yes": [True, False, True], "mixed": [1, "a", None],
        "deep": [{"a": 1}, [1], None], "none": [None, None, None], "größe": ["ä", "北京", "🙂"],
    }  # fmt: skip
    rows = [{"text": "red", **{name: cells[n] for name, cells in kept.items()}} for n in range(3)]
    data, out = tmp_path / "rows.jsonl", tmp_path / "out.parquet"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict(model="m", data=str(data), keep=list(kept), out=str(out))
    table = pq.read_table(out)
    types = {name: str(table.schema.field(name).type) for name in kept}
    assert types == {
        "whole": "int64", "number": "double", "yes": "bool", "mixed": "string", "deep": "string", "none": "string",
        "größe": "string",
    }  # fmt: skip
    found = table.to_pydict()
    assert {name: found[name] for name in ("whole", "number", "yes", "none", "größe")} == {
        name: kept[name] for name in ("whole", "number", "yes", "none", "größe")
    }
    assert found["mixed"] == ["1", '"a"', None]
    assert found["deep"] == ['{"a": 1}', "[1]", None]
    source = tmp_path / "typed.parquet"
    day = pa.array([1, 2, 3], pa.date32())
    pq.write_table(pa.table({"text": ["red"] * 3, "day": day, "parts": [[1], [], [2, 3]]}), source)
    predict(model="m", data=str(source), keep=["day", "parts"], out=str(out), overwrite=True)
    assert pq.read_table(out).column("day").combine_chunks() == day
    assert pq.read_table(out).column("parts").to_pylist() == [[1], [], [2, 3]]
    predict(model="m", data=str(source), keep=["day", "parts"], out=str(tmp_path / "days.csv"))
    assert [row["parts"] for row in answers(tmp_path / "days.csv")] == ["[1]", "[]", "[2, 3]"]


def test_without_a_file_the_answers_alone_are_on_stdout(bundle_of: Callable[..., Path], rows: Path) -> None:
    for more in ([], ["--out", "-"], ["--json"]):
        result = CliRunner().invoke(app, ["predict", str(bundle_of()), "--data", str(rows), *more])
        assert result.exit_code == 0, result.output
        assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [row["id"] for row in ROWS]
        assert "9 rows answered" in result.stderr


def test_the_command_says_what_it_did(bundle_of: Callable[..., Path], rows: Path, tmp_path: Path) -> None:
    command = ["predict", str(bundle_of()), "--data", str(rows), "--out", str(tmp_path / "o.csv")]
    result = CliRunner().invoke(app, [*command, "--json"])
    found = json.loads(result.stdout)
    assert (found["rows"], found["skipped"], found["out"]) == (9, 0, str(tmp_path / "o.csv"))
    result = CliRunner().invoke(app, [*command, "--overwrite"])
    assert "9 rows answered" in result.stdout
    assert f"answers: {tmp_path / 'o.csv'}" in result.stdout
    assert CliRunner().invoke(app, command).exit_code == 2


# ---- what is broken


BROKEN: dict[str, tuple[str, str]] = {
    "empty.csv": ("id,text\n1,red\n2,\n3,blue\n", "line 3: expected a text in column 'text'"),
    "blank.txt": ("red\n\nblue\n", "line 2: expected a text, got ''"),
    "spaces.txt": ("red\n  \nblue\n\n", "line 2: expected a text"),
    "number.jsonl": (
        '{"text": "red"}\n{"text": 5}\n{"text": "blue"}\n',
        "line 2: expected a text in column 'text', got 5",
    ),
    "missing.jsonl": ('{"text": "red"}\n{"txt": "a"}\n{"text": "blue"}\n', "line 2: expected a text in column 'text'"),
    "torn.jsonl": ('{"text": "red"}\n{"text": "a\n{"text": "blue"}\n', "line 2: expected one JSON object a line"),
    "list.jsonl": ('{"text": "red"}\n["a"]\n{"text": "blue"}\n', "line 2: expected a JSON object"),
    "ragged.csv": ("id,text\n1,red\n2,green,more\n3,blue\n", "line 3: expected 2 fields"),
    "half.jsonl": ('{"text": "red"}\n{"text": "\\ud800"}\n{"text": "blue"}\n', "line 2: expected a text"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_named_before_work_starts_or_left_out_and_counted(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, said = BROKEN[name]
    data, out = tmp_path / name, tmp_path / "out.jsonl"
    data.write_text(content)
    made = predict(model="m", data=str(data), out=str(out), skip_broken=True)
    assert (made.rows, made.skipped) == (2, 1)
    found = answers(out)
    first = 2 if name.endswith("csv") else 1
    assert [row["line"] for row in found] == [first, first + 2]
    monkeypatch.setattr(run, "open_model", lambda *_: pytest.fail("work started"))
    with pytest.raises(UserError) as error:
        predict(model="m", data=str(data), out=str(tmp_path / "other.jsonl"))
    assert f"{data}, {said}" in str(error.value)
    assert [path.name for path in tmp_path.iterdir() if path not in (data, out)] == []


def test_a_file_of_broken_rows_alone_is_refused(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n''\n".replace("''", '""'))
    with pytest.raises(UserError, match=r"a\.csv: expected rows with a text, got none \(.*line 2"):
        predict(model="m", data=str(tmp_path / "a.csv"), out=str(tmp_path / "o.csv"), skip_broken=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": "out.txt"}, "--out: expected a file ending in .jsonl"),
        ({"out": "out.parquet.gz"}, "--out: expected a file ending in"),
        ({"out": "."}, "--out: expected a file"),
        ({"out": "none/out.csv"}, "expected a folder"),
        ({"out": "there.csv"}, "--overwrite"),
        ({"out": "rows.csv", "overwrite": True}, "expected another file than --data"),
        ({"keep": ["score"]}, "expected --keep to be one of"),
        (
            {"keep": ["label"], "data": "labelled.csv"},
            "--keep: expected other columns than those of the answers, got 'label'",
        ),
        ({"text": "words"}, "expected the column of the texts (--text) to be one of"),
        ({"text": "text", "text_pair": "text"}, "expected two columns"),
        ({"data": "none.csv"}, "none.csv"),
        ({"data": "."}, "expected a file of texts"),
        ({"data": "a.txt", "text": "text"}, "expected no columns of a file with one text a line"),
        ({"data": "a.txt", "delimiter": ";"}, "--delimiter"),
        ({"encoding": "klingon"}, "klingon"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_file(
    fake: Fake, rows: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(rows.parent)
    Path("there.csv").write_text("kept")
    Path("a.txt").write_text("red\n")
    Path("labelled.csv").write_text("text,label\nred,cold\n")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    with pytest.raises(UserError) as error:
        predict(**{"model": "m", "data": "rows.csv", "out": "out.csv", **options})
    assert said in str(error.value)
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_an_answer_that_is_not_finite_names_its_row_and_leaves_no_file(
    fake: Fake, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "run", lambda texts, size: np.where(np.arange(len(texts)) == 4, np.nan, 1.0)[:, None])
    with pytest.raises(UserError, match=r"got NaN or infinity for line 6 of .*rows\.csv"):
        predict(model="m", data=str(rows), out=str(tmp_path / "out.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


# ---- large files, and ends before the end


def test_memory_does_not_grow_with_the_file(fake: Fake, tmp_path: Path) -> None:
    data = tmp_path / "large.txt"
    with data.open("w") as file:
        for n in range(3_000):
            file.write(f"{n} {'word ' * 4_000}\n")
    assert data.stat().st_size > 60e6
    tracemalloc.start()
    try:
        made = predict(model="m", data=str(data), out=str(tmp_path / "out.jsonl"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.rows == 3_000
    assert len(answers(tmp_path / "out.jsonl")) == 3_000
    assert peak < 25e6


@pytest.mark.parametrize(
    ("name", "end"), [("out.jsonl", signal.SIGKILL), ("out.parquet", signal.SIGKILL), ("out.csv.gz", signal.SIGINT)]
)
def test_a_call_that_ends_early_leaves_no_file_that_looks_whole(tmp_path: Path, name: str, end: int) -> None:
    data, out = tmp_path / "a.txt", tmp_path / name
    data.write_text("red\n" * 3000)
    code = (
        f"import signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # tests run in the background would ignore it
        "from fake_model import Fake\nfrom contrastill.prediction import predict, run\n"
        "model = Fake()\nmodel.delay = 0.3\nrun.CHUNK = 10\n"
        "run.open_model = lambda settings, pairs: model\nrun.column_names = lambda settings: (None, None)\n"
        f"predict(model='m', data={str(data)!r}, out={str(out)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, env=os.environ)
    part = out.with_name(name + ".part")
    deadline = time.monotonic() + 60
    while not part.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    with pytest.raises(UserError, match="another process writes it"):
        run_quick(data, out)
    process.send_signal(end)
    process.wait(30)
    assert not out.exists()
    assert part.exists() == (end == signal.SIGKILL)
    run_quick(data, out)
    assert len(answers(out)) == 3000
    assert not part.exists()


def run_quick(data: Path, out: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_model", lambda settings, pairs: Fake())
        patch.setattr(run, "column_names", lambda settings: (None, None))
        predict(model="m", data=str(data), out=str(out))
