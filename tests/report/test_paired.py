"""Differences of two models on the same rows are those that `evaluation` gives."""

import json
from typing import Any

import numpy as np
import pytest
from run_folders import CLASSES, RECORD, Page, class_evidence

from contrastill import UserError, evaluation
from contrastill.evaluation import paired_bootstrap
from contrastill.evaluation.labels import paired_label_interval
from contrastill.evaluation.spans import paired_span_interval
from contrastill.report import compare, write_report
from contrastill.report.paired import KEPT, METRICS, answers_of, by_row, difference
from contrastill.report.run import read_run
from contrastill.tasks import Classification, MultiLabel

RANDOM = np.random.default_rng(5)
ROWS = 240
LABELS = RANDOM.integers(0, 3, ROWS)
GOOD, BAD = (RANDOM.normal(size=(ROWS, 3)) + k * np.eye(3)[LABELS] for k in (3, 1))
TEXTS = [[f"text {n}"] for n in range(ROWS)]


def kept(task: Any, labels: Any, logits: Any, metric: str, texts: Any = TEXTS) -> dict[str, Any]:
    truth, answers = task.by_row(labels, logits)
    return by_row(metric, texts, truth, answers, None)


def evidence(rows: dict[str, Any], names: tuple[str, ...] = CLASSES, split: str = "test") -> dict[str, Any]:
    return {**class_evidence(names=names), "by_row": {split: rows}}


def tidy(page: Page) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in page.rows]


@pytest.fixture
def apart(write_run):
    """The difference of two runs with these rows kept."""

    def of(a: dict[str, Any], b: dict[str, Any], names: Any = (CLASSES, CLASSES)) -> Any:
        runs = [
            write_run(n, evidence=evidence(rows, known), log=[])
            for n, rows, known in zip("ab", (a, b), names, strict=True)
        ]
        first, second = (answers_of(read_run(run), "test") for run in runs)
        assert first is not None
        assert second is not None
        return difference(first, second)

    return of


@pytest.mark.parametrize("metric", ["accuracy", "f1", "f1_macro", "matthews"])
@pytest.mark.parametrize("classes", [3, 2])
def test_each_resample_of_classes_is_scored_as_evaluation_does(metric: str, classes: int) -> None:
    answers, truth = GOOD.argmax(1) % classes, LABELS % classes
    weights = RANDOM.multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=5)
    weights[-1] *= truth == 0  # a resample that lacks classes
    found = METRICS[metric](weights.astype(float), answers, truth, classes)
    options = {"classes": classes} if metric == "f1" else {}
    drawn = [weight > 0 for weight in weights]
    expected = [
        evaluation.METRICS[metric](answers[some], truth[some], weight[some], **options)
        for weight, some in zip(weights, drawn, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_each_resample_of_numbers_is_scored_as_evaluation_does(metric: str) -> None:
    truth = LABELS + RANDOM.integers(0, 5, ROWS) / 2
    answers = (truth + RANDOM.normal(size=ROWS)).round(1)  # with ties
    weights = RANDOM.multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=5)
    found = METRICS[metric](weights.astype(float), answers, truth, 0)
    expected = [evaluation.METRICS[metric](answers, truth, weight) for weight in weights]
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_interval_is_evaluation_s(apart) -> None:
    task = Classification(CLASSES)
    found = apart(kept(task, LABELS, GOOD, "accuracy"), kept(task, LABELS, BAD, "accuracy"))
    expected = paired_bootstrap(GOOD, BAD, LABELS, "accuracy")
    assert found[0] == pytest.approx(expected[0], abs=1e-9)
    assert found[1:] == pytest.approx(expected[1:], abs=0.012)
    assert found[1] < found[0] < found[2]


def test_several_labels_are_compared_by_the_f1_of_all_together(apart) -> None:
    truth = (RANDOM.random((ROWS, 4)) < 0.3).astype(float)
    logits = [6 * truth - 3 + k * RANDOM.normal(size=truth.shape) for k in (2, 5)]
    task = MultiLabel("abcd", thresholds=[0.3, 0.5, 0.6, 0.4])
    found = apart(*(kept(task, truth, each, "f1_micro") for each in logits))
    models = [(task.answers(each), task.thresholds) for each in logits]
    expected = paired_label_interval(*models, truth, "f1_micro")
    assert found[0] == pytest.approx(expected[0], abs=1e-9)
    assert found[1:] == pytest.approx(expected[1:], abs=0.012)


def test_taggers_are_compared_by_the_f1_of_their_entities(apart) -> None:
    counts = [RANDOM.integers(0, 4, (ROWS, 1, 3)) for _ in range(2)]
    for each in counts:
        each[..., 2] = counts[0][..., 2]
        each[..., 0] = np.minimum(each[..., 0], each[..., 1:].min(-1))
    parts = [np.stack([2 * each[:, 0, 0], each[:, 0, 1] + each[:, 0, 2]], 1) for each in counts]
    found = apart(*(by_row("f1", TEXTS, None, each, None) for each in parts))
    expected = paired_span_interval(*counts, "f1")
    assert found == pytest.approx(expected, abs=0.01)
    assert found[0] == pytest.approx(expected[0])


def test_classes_in_another_order_are_the_same(apart) -> None:
    turned = (2 - LABELS, BAD[:, ::-1])
    a, b = kept(Classification(CLASSES), LABELS, GOOD, "f1"), kept(Classification(CLASSES), *turned, "f1")
    same = apart(a, kept(Classification(CLASSES), LABELS, BAD, "f1"))
    assert apart(a, b, (CLASSES, CLASSES[::-1])) == pytest.approx(same)
    assert apart(a, b) is None, "other classes for the same rows"


def test_other_rows_do_not_compare(apart) -> None:
    task = Classification(CLASSES)
    one = kept(task, LABELS, GOOD, "accuracy")
    assert apart(one, kept(task, LABELS, GOOD, "accuracy", [["x"], *TEXTS[1:]])) is None
    assert apart(one, kept(task, np.roll(LABELS, 1), GOOD, "accuracy")) is None
    assert apart(one, kept(task, LABELS, GOOD, "f1")) is None
    assert apart(one, one) == (0, 0, 0)


def test_of_many_rows_the_same_are_kept() -> None:
    rows, labels = KEPT + 50, np.arange(KEPT + 50)
    found = by_row("accuracy", ([str(n)] for n in range(rows)), labels, labels, None)
    assert found["rows"] == rows
    assert len(found["ours"]) == KEPT
    assert found["truth"] == sorted(found["truth"])
    assert len(json.dumps(found)) < 400_000


@pytest.mark.parametrize("value", [None, "x", [], ["a"] * ROWS, [9] * ROWS, [0.5] * ROWS, [[1, 2, 3]] * ROWS, [1] * 3])
@pytest.mark.parametrize("key", ["ours", "truth"])
def test_damaged_rows_are_left_out(key: str, value: Any, write_run) -> None:
    rows = kept(Classification(CLASSES), LABELS, GOOD, "accuracy") | {key: value}
    folder = write_run(evidence=evidence(rows), log=[])
    assert answers_of(read_run(folder), "test") is None
    assert "Student minus teacher" not in Page(write_report(folder)).text


def test_a_comparison_says_which_differences_are_more_than_chance(write_run, tmp_path) -> None:
    task = Classification(CLASSES)
    same = GOOD + 0.01 * RANDOM.normal(size=GOOD.shape)
    runs = [
        write_run(name, evidence=evidence(kept(task, LABELS, logits, "accuracy")), log=[])
        for name, logits in (("good", GOOD), ("bad", BAD), ("same", same))
    ]
    runs.append(write_run("without", log=[]))
    page = Page(compare(runs, tmp_path / "page.html"))
    value, low, _ = (100 * each for each in paired_bootstrap(BAD, GOOD, LABELS, "accuracy"))
    *_, between, verdict = page.row("bad", f"{value:+.2f} points".replace("-", "\u2212"))
    assert verdict == "lower"
    assert float(between.split(" to ")[0].replace("\u2212", "-")) == pytest.approx(low, abs=1)
    assert any(cells[:1] == ["same"] and cells[-1] == "no difference shown" for cells in tidy(page))
    assert "on the same 240 rows of test" in page.text
    assert "Not scored on these rows by this metric: without." in page.text


def test_differences_are_given_to_the_run_that_is_named(write_run, tmp_path) -> None:
    task = Classification(CLASSES)
    runs = [
        write_run(name, evidence=evidence(kept(task, LABELS, logits, "accuracy")), log=[])
        for name, logits in (("good", GOOD), ("bad", BAD))
    ]
    page = Page(compare(runs, tmp_path / "page.html", to=runs[1]))
    assert "The reference is bad" in page.text
    value = 100 * paired_bootstrap(GOOD, BAD, LABELS, "accuracy")[0]
    assert page.row("good", f"{value:+.2f} points")[-1] == "higher"
    with pytest.raises(UserError, match=r"one of the runs to compare .*--to"):
        compare(runs, tmp_path / "page.html", to=tmp_path)


def test_a_student_s_page_gives_the_interval_to_its_teacher(write_run) -> None:
    task = Classification(CLASSES)
    rows = by_row("accuracy", TEXTS, *task.by_row(LABELS, BAD), GOOD.argmax(1))
    page = Page(write_report(write_run(evidence=evidence(rows), log=[])))
    value, *_ = paired_bootstrap(BAD, GOOD, LABELS, "accuracy")
    said = f"Student minus teacher, accuracy on 240 rows of test: {100 * value:+.2f} points".replace("-", "\u2212")
    assert said in page.text


def test_a_teacher_of_several_runs_stands_in_the_table_once(write_run, tmp_path) -> None:
    runs = [write_run("a", log=[]), write_run("b", log=[])]
    page = Page(compare(runs, tmp_path / "page.html"))
    results = page.source[: page.source.index('id="runs"')]
    assert results.count('<th scope="row">teacher') == 1
    runs.append(write_run("c", {**RECORD, "teacher_fingerprint": "another"}, log=[]))
    page = Page(compare(runs, tmp_path / "page.html"))
    assert [cells[0] for cells in tidy(page) if cells and cells[0].startswith("teacher")][:2] == [
        "teacher of a, b",
        "teacher of c",
    ]
