"""The page of a run: that its figures are the run's, that it stands alone, and that nothing in a folder breaks it."""

import base64
import copy
import hashlib
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from run_folders import CLASSES, METRICS, RECORD, Page, class_evidence, log_rows, write_bundle

from contrastill import UserError
from contrastill.methods import METHODS
from contrastill.report import compare, leave_report, write_report
from contrastill.report.evidence import of_labels
from contrastill.report.results import models
from contrastill.report.run import RunFiles, read_run
from contrastill.report.tiles import tiles
from contrastill.report.training import smoothed, windows
from contrastill.report.words import SHARES, TERMS

INT8 = "onnxruntime int8 accuracy 87.00 %: −0.31 points against PyTorch, on dev"


def without(known, *keys):
    return {key: value for key, value in known.items() if key not in keys}


def changed(known, path, value):
    found = copy.deepcopy(known)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


def assert_stands_alone(page: Page) -> None:
    outside = [ref for ref in page.refers if re.search(r"(?i)(https?:|//|file:|url\((?!#))", ref)]
    assert outside == []
    assert all(ref.startswith("#") for ref in page.refers if not (":" in ref or ref == "")), page.refers
    assert page.tags.count("script") == 1, "the page's own"
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    css = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "@import" not in css
    assert "url(" not in css


def assert_lets_nothing_in(page: Page) -> None:
    script = page.source[page.source.index("<script>") + 8 : page.source.index("</script>")]
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"style-src 'unsafe-inline'; script-src 'sha256-{own}'"
    assert (
        page.metas.get("Content-Security-Policy")
        == f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    )
    assert page.source.index("Content-Security-Policy") < page.source.index("<style>")  # it binds what comes after it


# ---- its figures


def test_the_figures_are_those_of_metrics_json(write_run) -> None:
    page = Page(write_report(write_run(evidence=class_evidence())))
    assert "keeps 92.9 % of its teacher's accuracy on test (36 rows): 85.26 % against 91.73 %" in page.text
    assert page.row("teacher")[1:3] == ["91.73 % 89.7 to 93.7", "100.0 %"]
    assert page.row("student")[1:3] == ["85.26 % 83.3 to 87.3", "92.9 %"]
    assert page.row("student")[3:] == ["57", "14.4 M"]
    assert page.row("dev F1") == ["dev F1", "92.87 %", "86.42 %", "−6.45"]
    assert "7.6 ×" in page.text  # 437.952 / 57.411
    assert page.row("training")[1] == "6 min"
    assert page.row("dev")[1:] == ["30", "30", "0", "0", "1"]
    assert "dev is 30 rows held out of train" in page.text
    assert "3.3% of dev texts are in train" in page.text
    assert "language" in page.text


def test_each_loss_term_has_a_chart_and_stages_are_parted_by_name(write_run) -> None:
    page = Page(write_report(write_run()))
    titles = re.findall(r"<h3>([^<]+)</h3>", page.source)
    wanted = ["loss (sum)", "cos_nce", "soft", "hard", "dev accuracy and F1", "learning rate", "gradient norm"]
    assert [title for title in titles if title in wanted] == wanted
    assert page.source.count(">joint</text>") == len(wanted)
    assert page.source.count("Distance of the answers from the true labels") == 1
    assert (
        page.source.count("Dotted: logged, but not trained, in that stage.") == 2
    )  # soft and hard, in the first stage


def test_a_mean_over_fewer_steps_joins_its_neighbour() -> None:
    """50 steps logged every 10; a save at 25 and the end at 53 log what there is, of few batches."""
    means = {10: 5.0, 20: 4.0, 25: 1.0, 30: 5.0, 40: 2.0, 50: 2.0, 53: 0.4}
    log = [{"loss": value, "ckd": value, "stage": 1, "step": step} for step, value in means.items()]
    run = RunFiles(Path("run"), {}, {}, log, {}, {}, [])
    steps, values = windows(run, "ckd")
    assert steps == [10, 20, 30, 40, 53]
    assert values == pytest.approx([5, 4, (5 * 1 + 5 * 5) / 10, 2, (10 * 2 + 3 * 0.4) / 13])
    log[4:] = [{**row, "stage": 2} for row in log[4:]]
    assert windows(run, "ckd")[0] == steps
    log[3:4] = []  # a stage that ends with a short one: what comes after it is another sum
    assert windows(run, "ckd")[0] == [10, 25, 40, 53]


def test_a_smoothed_curve_is_a_mean_over_neighbours_of_its_stage() -> None:
    random = np.random.default_rng(0)
    steps, values = list(range(1, 101)), random.normal(size=100).tolist()
    found = smoothed(steps, values, [40, 100])  # stages of 40 and 60 points: 2 and 3 on either side
    for n in range(100):
        first, last, wide = (0, 39, 2) if n < 40 else (40, 99, 3)
        around = min(wide, n - first, last - n)
        assert found[n] == pytest.approx(np.mean(values[n - around : n + around + 1]))
    assert smoothed(steps[:15], values[:15]) == values[:15], "too few"
    assert found[0] == values[0]


def test_what_was_logged_is_drawn_behind_a_smoothed_curve_and_read_where_the_pointer_is(write_run) -> None:
    log = [{"loss": 3.0 + step % 3, "grad_norm": 1.0, "step": step} for step in range(1, 51)]
    page = Page(write_report(write_run(record={**RECORD, "stages": []}, log=log)))
    assert page.source.count("Strong line: smoothed; faint line: as logged.") == 1
    loss = page.source[page.source.index("<h3>loss</h3>") :]
    titles = re.findall(r"<title>(step [^<]+)</title>", loss[: loss.index("</svg>")])
    assert len(titles) == 50
    assert titles[9] == "step 10: 4 (smoothed: 4)"
    assert titles[10] == "step 11: 5 (smoothed: 3.8)"


def test_every_term_of_a_built_in_method_is_explained() -> None:
    terms = {term for method in METHODS.values() for stage in method.stages for term in stage.weights}
    assert len(terms) >= 12
    by_setting = {"cosine", "centred"}  # of `lrc_bert --set compare`
    assert terms | {"loss", "anchor"} | by_setting == set(TERMS)
    assert set(SHARES) == {"accepted", "fresh", "replayed"}  # of texts that are written, not weighed


def test_each_step_logged_is_a_point() -> None:
    log = [{"loss": 3.0 / step, "step": step} for step in range(1, 8)]
    assert windows(RunFiles(Path("run"), {}, {}, log, {}, {}, []), "loss")[0] == list(range(1, 8))


@pytest.mark.parametrize(
    ("full", "words"), [(20, "until it is full, at step 20 (dashed)"), (900, "to the end (it holds")]
)
def test_a_term_that_reads_a_queue_says_why_it_rises(write_run, full: int, words: str) -> None:
    queue = {"size": 16_384, "full_at": full, "terms": ["cos_nce"]}
    page = Page(write_report(write_run(record={**RECORD, "queue": queue})))
    assert page.text.count("The queue of past texts grows") == 2  # the term's chart, and that of the sum
    assert words in page.text
    assert "The queue" not in Page(write_report(write_run("another"))).text


def test_an_agreement_stands_beside_what_it_was_and_what_chance_gives(write_run) -> None:
    metrics = {"steps": 40, "task": "sentence embeddings", "metric": "agreement", "seconds": {}, "train_rows": 900}
    metrics |= {"student": {"agreement": 0.59, "cosine": 0.8}, "teacher": {}}
    metrics |= {"yardsticks": {"untrained": 0.31, "chance": 10 / 511}}
    page = Page(write_report(write_run(metrics=metrics)))
    assert "agreement was 31.0 % before training" in page.text
    assert "random neighbours would give 2.0 %" in page.text
    assert "31.0 % before training" in page.text
    assert "that are also its nearest by the student" in page.text


@pytest.mark.usefixtures("drawn_anew")
def test_every_chart_has_a_name_a_description_and_ids_of_its_own(write_run) -> None:
    page = Page(write_report(write_run(evidence=class_evidence())))
    assert len(page.svgs) >= 9
    assert len(page.ids) == len(set(page.ids))
    for svg in page.svgs:
        assert svg["role"] == "img"
        assert set(str(svg["aria-labelledby"]).split()) <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page.source)) <= set(page.ids)


def test_charts_have_no_colour_but_the_page_s_variables(write_run) -> None:
    page = Page(write_report(write_run(evidence=class_evidence())))
    charts = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert re.findall(r"(?:fill|stroke): (?!none|var\()[^;\"]+", charts) == []
    used, css = set(re.findall(r"var\((--[a-z0-9]+)\)", charts)), page.source
    assert used
    for name in used:
        assert css.count(f"{name}:") >= 3, f"{name} in light, dark and print"


def test_classes_are_listed_by_what_they_lost_and_won(write_run) -> None:
    evidence = class_evidence()
    page = Page(write_report(write_run(evidence=evidence)))
    for each in evidence["classes"]:
        row = page.row(each["name"])
        assert row[3:] == [f"{each[who][what]:.2f}" for what in ("f1", "recall") for who in ("theirs", "ours")] + [
            str(each["rows"])
        ]
        change = each["ours"]["f1"] - each["theirs"]["f1"]
        assert row[1].replace("−", "-").lstrip("+") == f"{change:.2f}".lstrip("+")


def test_confusions_stand_beside_the_teacher_s_and_are_escaped(write_run) -> None:
    evidence = class_evidence(names=("<b>food</b>", "music", "sport"))
    page = Page(write_report(write_run(evidence=evidence, log=[])))
    assert evidence["confusions"]
    for one in evidence["confusions"]:
        counts = [str(one[key]) for key in ("ours", "theirs", "rows")]
        name = f"{one['label']} → {one['answer']}"
        assert page.row(name) == [name, *counts]
    assert "<b>food" not in page.source
    alone = class_evidence(teacher=False)
    page = Page(write_report(write_run(evidence=alone, log=[])))
    one = alone["confusions"][0]
    assert page.row(f"{one['label']} → {one['answer']}")[1:] == [str(one["ours"]), str(one["rows"])]


def test_a_run_without_a_teacher_shows_its_own_classes_and_errors(write_run) -> None:
    metrics = {**without(METRICS, "student", "teacher", "kept"), "model": METRICS["student"]}
    record = {**RECORD, "command": "finetune", "stages": []}
    page = Page(write_report(write_run(record=record, metrics=metrics, evidence=class_evidence(teacher=False))))
    assert "Accuracy 85.26 % on test (36 rows)." in page.text
    assert "the classes with the lowest F1" in page.text
    assert "Where the model is furthest from the truth" in page.text
    assert "How far the answers are from the truth" in page.text
    assert "Probability given to the true class" in page.text


def test_labels_have_their_thresholds_and_rows_all_that_was_answered(write_run) -> None:
    truth = np.tile(np.eye(3), (10, 1))
    truth[:3] = 0
    ours, theirs = 0.5 + (truth - 0.5) * 0.8, 0.5 + (truth - 0.5) * 0.7
    ours[0] = 0.9  # all labels, of a row without
    limits = np.array([0.25, 0.5, 0.75]), np.full(3, 0.5)
    evidence = of_labels(truth, ours, theirs, CLASSES, limits, lambda rows: [[f"text {n}"] for n in rows])
    page = Page(write_report(write_run(evidence=evidence)))
    heads = [row for row in page.rows if "class" in [cell.strip() for cell in row]]
    assert all("threshold" in [cell.strip() for cell in row] for row in heads)
    assert page.row(CLASSES[0])[-2:] == ["0.25", "9"]
    assert f"student {', '.join(CLASSES)} wrong {CLASSES[0]} 90 %" in page.text
    assert "teacher no label right" in page.text


def test_seventy_seven_classes_and_one_without_rows(write_run) -> None:
    names = tuple(f"intent_{n}" for n in range(77))
    page = Page(write_report(write_run(evidence=class_evidence(names=names, rows=76))))
    assert "All 77 classes" in page.text
    assert "Without rows on dev, so without recall: intent_76." in page.text
    assert page.row("intent_76")[1] == "–" or page.row("intent_76")[-2] == "–"
    assert_stands_alone(page)


def test_regression_shows_errors_along_the_scale(write_run) -> None:
    import numpy as np

    from contrastill.report.evidence import of_scores

    labels = np.linspace(0, 5, 30)
    evidence = of_scores(labels, labels + 0.5, labels - 0.25, lambda rows: [[f"pair {n}", "b"] for n in rows])
    metrics = changed(METRICS, ["metric"], "spearman")
    for name in ("student", "teacher"):
        for split in ("dev", "test"):
            metrics = changed(metrics, [name, split, "metrics"], {"spearman": 0.81234, "pearson": 0.8})
    page = Page(write_report(write_run(metrics=metrics, evidence=evidence)))
    assert page.row("0 to 0.862")[1:] == ["6", "0.250", "0.500"]
    assert "0.8123" in page.row("student")[1]
    assert "The model's score less the teacher's" in page.text


def test_an_sts_run_shows_each_set(write_run) -> None:
    sts = {"student": {"STS12": 74.88, "STS13": 82.01, "mean": 78.445}, "teacher": {"STS12": 72.63, "STS13": 83.45}}
    sts["teacher"]["mean"] = 78.04
    sizes = {"parameters": 10**7, "size_mb": 40.0}
    metrics = {"task": "sentence embeddings", "metric": "spearman", "steps": 40, "sts": sts, "teacher": sizes}
    page = Page(write_report(write_run(metrics={**metrics, "student": {"spearman": 0.8648, **sizes}})))
    assert page.row("STS12") == ["STS12", "72.63", "74.88", "+2.25"]
    assert page.row("student")[1] == "78.44" or page.row("student")[1] == "78.45"
    assert "on the STS sets" in page.text


@pytest.mark.parametrize("theirs", [0.0, -0.1])
def test_of_a_teacher_at_chance_no_share_is_told(write_run, theirs) -> None:
    scores = {"student": {"spearman": 0.2}, "teacher": {"spearman": theirs}}
    metrics = {"task": "sentence embeddings", "metric": "spearman", "steps": 40, **scores}
    page = Page(write_report(write_run(metrics=metrics)))
    assert f"Spearman correlation 0.2000 on dev, its teacher's {theirs:.4f}: no share can be told." in page.text
    assert "keeps" not in page.text


def test_a_model_without_scores_has_no_column_of_them(write_run) -> None:
    sizes = {"parameters": 10**7, "size_mb": 40.0}
    metrics = {"task": "sentence embeddings", "metric": "agreement", "steps": 40, "teacher": sizes}
    metrics["student"] = {"agreement": 0.425, "cosine": 0.5791, **sizes}
    page = Page(write_report(write_run(metrics=metrics)))
    assert page.row("score") == ["score", "student"]
    assert page.row("dev cosine") == ["dev cosine", "0.5791"]
    assert "Agreement on neighbours: the share of a text's nearest neighbours" in page.text
    assert "Intervals are" not in page.text, "there are none"


def test_a_contrast_run_compares_before_with_after(write_run) -> None:
    metrics = {"base": "m", "steps": 4, "train_rows": 9, "dev": {"before": 86.472, "after": 86.5999}}
    metrics |= {"parameters": 10**6, "size_mb": 4.0, "seconds": {}}
    page = Page(write_report(write_run(record={**RECORD, "command": "contrast"}, metrics=metrics)))
    assert "higher after training: 86.47 before, 86.60 after" in page.text
    assert "+0.13" in page.text


# ---- bundles and speed


def test_headline_and_table_are_of_one_set_of_rows(write_run) -> None:
    folder = write_run()
    write_bundle(folder / "exports" / "int8", "int8", 0.8700, 2.0, 14_500_000, test=0.8501)
    write_bundle(folder / "exports" / ".export-1", "fp32", 0.8731, 2.0, 14_500_000)
    page = Page(write_report(folder))
    assert "onnxruntime fp32" not in page.text, "one that is being made is no bundle yet"
    assert page.row("model")[1] == "accuracy, test"
    assert page.row("student")[1].startswith("85.26 %")
    assert "keeps 92.9 % of its teacher's accuracy on test" in page.text
    assert "Every score in this table is accuracy on test (36 rows), as in the headline." in page.text
    assert "without a score" not in page.text
    _, score, kept, ms, faster, megabytes, _ = page.row("onnxruntime int8 −0.31 points against PyTorch, on dev")
    assert (score, kept, ms, megabytes) == ("85.01 % 83.0 to 87.0", "92.7 %", "2.0", "14")
    assert faster == "4.0 × than the student in PyTorch"
    assert "the exports' gates, 2 threads" in page.text
    assert "Quality against latency" in page.text
    assert ">accuracy, test (%)</text>" in page.source
    assert "Not timed, so not drawn: teacher." in page.text


def test_an_exported_model_scored_on_dev_alone_has_its_score_beside_its_name(write_run) -> None:
    folder = write_run()
    write_bundle(folder / "int8", "int8", 0.8700, 2.0, 14_500_000)
    page = Page(write_report(folder))
    assert page.row("student")[1].startswith("85.26 %")
    assert page.row(f"{INT8}")[1:3] == ["–", "–"]
    assert "An exported model without a score was not scored on test." in page.text
    assert ">accuracy, dev (%)</text>" in page.source
    assert "This chart shows dev scores, unlike the table: exported models have no others." in page.text


def test_without_test_rows_all_are_scored_on_dev(write_run) -> None:
    metrics = changed(METRICS, ["student"], without(METRICS["student"], "test"))
    folder = write_run(metrics=changed(metrics, ["teacher"], without(METRICS["teacher"], "test")))
    write_bundle(folder / "int8", "int8", 0.8700, 2.0, 14_500_000)
    page = Page(write_report(folder))
    assert page.row("onnxruntime int8 −0.31 points against PyTorch")[1:3] == ["87.00 %", "93.4 %"]
    assert "accuracy on dev (30 rows), as in the headline" in page.text


def test_a_bundle_scored_on_other_test_rows_has_no_score_on_these(write_run) -> None:
    folder = write_run()
    write_bundle(folder / "int8", "int8", 0.8700, 2.0, 14_500_000, test=0.85)
    bundle = json.loads((folder / "int8" / "bundle.json").read_text())
    (folder / "int8" / "bundle.json").write_text(json.dumps(changed(bundle, ["test", "rows"], 35)))
    assert Page(write_report(folder)).row(INT8)[1] == "–"


def faster(folder: Path) -> str | None:
    """The figure in the headline's tile, if there is one."""
    run = read_run(folder)
    return next((figure for what, figure, _ in tiles(run, models(run)) if what == "faster"), None)


@pytest.mark.parametrize(
    ("doubts", "shown"),
    [({}, "16.0\u00a0×"), ({1: "the machine was busy, with a load of 15.0 on 2 cores before"}, None)],
)
def test_a_factor_that_is_in_doubt_is_not_a_headline(doubts: dict[int, str], shown: str | None, write_run) -> None:
    times = [("teacher", "torch", "fp32", 20.0), ("student", "onnxruntime", "int8", 1.25)]
    rows = [
        {"model": m, "runtime": r, "precision": p, "length": "data", "batch": 1, "p50_ms": ms, "doubt": doubts.get(n)}
        for n, (m, r, p, ms) in enumerate(times)
    ]
    folder = write_run(bench={"threads": 2, "rows": rows})
    write_bundle(folder / "exports" / "int8", "int8", 0.8700, 2.0, 14_500_000)
    page = Page(write_report(folder))
    assert faster(folder) == shown
    assert ("not to be quoted: the machine was busy" in page.text) == bool(doubts)


def test_the_headline_s_yardstick_is_the_teacher_and_not_what_a_gate_compared_with(write_run) -> None:
    folder = write_run()
    write_bundle(folder / "exports" / "int8", "int8", 0.8700, 2.0, 14_500_000)
    assert faster(folder) is None
    model = {"test": METRICS["student"]["test"], "parameters": 10**6, "size_mb": 4.0}
    folder = write_run("finetuned", metrics={"metric": "accuracy", "model": model})
    write_bundle(folder / "exports" / "int8", "int8", 0.8700, 2.0, 14_500_000)
    assert faster(folder) == "4.0\u00a0×"


def test_a_yardstick_of_a_fine_tuned_model_is_no_teacher(write_run) -> None:
    test, size = METRICS["student"]["test"], {"parameters": 10**6, "size_mb": 4.0}
    others = {
        name: {"test": {**test, "metrics": {"accuracy": 0.95, "f1": 0.9}}, **size} for name in ("vectors", "probe")
    }
    metrics = {"metric": "accuracy", **others, "model": {"test": test, **size}}
    row = {"model": "model", "runtime": "torch", "precision": "fp32", "length": "data", "batch": 1, "p50_ms": 4.0}
    record = {**RECORD, "command": "finetune", "stages": []}
    folder = write_run("finetuned", record=record, metrics=metrics, bench={"threads": 2, "rows": [row]})
    page = Page(write_report(folder))
    assert "of its teacher" not in page.text
    assert "of the teacher" not in page.text
    assert "a linear fit on the frozen encoder, before any training" in page.text
    assert "each read by itself" in page.text
    assert [(model.name, model.kind, model.kept, model.latency_ms) for model in models(read_run(folder))] == [
        ("vectors", "yardstick", None, None),
        ("probe", "yardstick", None, None),
        ("model", "trained", None, 4.0),
    ]


def test_another_yardstick_than_the_teacher_in_pytorch_is_named_in_full(write_run) -> None:
    row = {"model": "student", "runtime": "onnxruntime", "precision": "int8", "length": "data", "batch": 1}
    rows = [{**row, "p50_ms": 4.0, "precision": "fp32", "ratio": 1.0}, {**row, "p50_ms": 2.0, "ratio": 2.0}]
    rule = {"model": "student", "runtime": "onnxruntime", "precision": "fp32", "workers": 1}
    folder = write_run(bench={"threads": 2, "rows": rows, "yardstick": rule})
    write_bundle(folder / "exports" / "int8", "int8", 0.8700, 2.0, 14_500_000)
    shown = Page(write_report(folder)).row(INT8)[4]
    assert shown == "2.0 × than the student in onnxruntime fp32"


def test_a_gate_on_other_rows_is_said_to_be(write_run) -> None:
    folder = write_run()
    write_bundle(folder / "int8", "int8", 0.9, 2.0, 14_500_000, rows=500, torch=0.9, data="other.csv")
    page = Page(write_report(folder))
    row = next(row for row in page.rows if row and row[0].strip().startswith("onnxruntime int8"))
    assert "other.csv" in row[0]
    assert [cell.strip() for cell in row[1:3]] == ["–", "–"]


def test_bench_json_is_preferred_to_the_gate(write_run) -> None:
    def timing(model, runtime, precision, ms, length="data"):
        return {"model": model, "runtime": runtime, "precision": precision, "length": length, "batch": 1, "p50_ms": ms}

    rows = [timing("teacher", "torch", "fp32", 60.0, 128), timing("teacher", "torch", "fp32", 20.0)]
    rows += [timing("student", "torch", "fp32", 5.0), timing("student", "onnxruntime", "int8", 1.25)]
    folder = write_run(bench={"threads": 2, "rows": rows})
    write_bundle(folder / "exports" / "int8", "int8", 0.8700, 2.0, 14_500_000)
    page = Page(write_report(folder))
    assert page.row("teacher")[3] == "20.0"
    assert page.row("student")[3:5] == ["5.0", "4.0 × than the teacher"]
    assert page.row(INT8)[3:5] == ["1.2", "16.0 × than the teacher"]
    assert page.row("teacher", "torch", "fp32", "128")[5] == "60"


def test_what_the_bench_doubts_is_said_beside_its_figures(write_run, tmp_path: Path) -> None:
    teacher = {
        "model": "teacher",
        "runtime": "torch",
        "precision": "fp32",
        "length": "data",
        "batch": 1,
        "p50_ms": 20.0,
    }
    student = {**teacher, "model": "student", "p50_ms": 5.0, "ratio": 3.5, "ratio_interval": [0.512, 14.96]}
    failed = {"model": "student", "runtime": "openvino", "precision": "int8", "error": "ended by signal 9"}
    streams = {**student, "runtime": "openvino", "batch": 32, "workers": 2}
    warning = "the machine is busy: time again"
    folder = write_run(bench={"threads": 2, "warnings": [warning], "rows": [teacher, student, failed, streams]})
    page = Page(write_report(folder))
    assert page.row("student")[4] == "3.5 × 0.5 to 15.0 than the teacher"
    assert "not the quotient of the medians" in page.text
    assert f"bench.json: {warning}." in page.text
    assert "bench.json: student, openvino int8: ended by signal 9." in page.text
    assert page.row("student", "openvino, 2 streams")[4] == "32"
    both = Page(compare([folder, write_run("other")], tmp_path / "page.html"))
    assert f"student: bench.json: {warning}." in both.text


# ---- texts that are not tame


def test_texts_and_names_are_escaped(write_run) -> None:
    wild = '<script>alert("x")</script><img src=x onerror=alert(1)> {{ 7 * 7 }}'
    record = changed(RECORD, ["settings", "method"], wild)
    texts = [[wild]] * 30
    folder = write_run(record=record, evidence=class_evidence(texts, ("<b>a</b>", "b", "c")))
    page = Page(write_report(folder))
    assert_stands_alone(page)
    assert wild in page.text
    assert "<b>a</b>" in page.text
    assert "&lt;script&gt;" in page.source


def test_decisions_and_doubts_have_a_section_of_their_own(write_run) -> None:
    decided = {"kind": "classification: 3 classes, in the order of train", "columns used": "text, label", "cut at": 128}
    doubts = ["dev has 30 rows: its interval is ±14 points", "the <b>teacher</b> has seen 12 of the 30 rows of dev"]
    record = {**RECORD, "data": {**RECORD["data"], "decisions": decided}, "warnings": doubts[:1]}
    page = Page(write_report(write_run(record=record, metrics={**METRICS, "warnings": doubts[1:]})))
    assert "decided" in page.ids
    assert page.refers.count("#decided") == 1
    assert "2 doubts about this run" in page.text.split("Results")[0]
    section = page.text.split("Decisions and doubts")[-1].split("Training loss")[0]
    for words in (*decided, *map(str, decided.values()), *doubts):
        assert words in section
    assert page.text.count("in the order of train") == 1  # not among the record's figures again


def test_a_run_that_decided_and_doubts_nothing_has_no_such_section(write_run) -> None:
    page = Page(write_report(write_run()))
    assert "Decisions and doubts" not in page.text
    assert "#decided" not in page.refers


def test_long_and_right_to_left_texts(write_run) -> None:
    texts = [["שלום עולם"], ["x" * 5000], ["مرحبا", "بالعالم"]] * 10
    page = Page(write_report(write_run(evidence=class_evidence(texts))))
    assert 'dir="auto">שלום עולם' in page.source
    assert "x" * 600 + " …" in page.text
    assert "x" * 601 not in page.source


def test_texts_of_nothing_are_said_to_be_empty(write_run) -> None:
    page = Page(write_report(write_run(evidence=class_evidence([["\n a text\n"], ["", " \n"], ["b"]] * 10))))
    assert '<blockquote dir="auto">a text</blockquote>' in page.source
    assert '<blockquote dir="auto">(empty)</blockquote><blockquote dir="auto">(empty)</blockquote>' in page.source


def test_lone_surrogates_do_not_stop_it(write_run) -> None:
    folder = write_run(evidence=class_evidence([["half a pair \ud83d"]] * 30))
    assert "half a pair" in Page(write_report(folder)).text


def test_the_page_stands_alone_and_is_small(write_run) -> None:
    path = write_report(write_run(evidence=class_evidence()))
    assert_stands_alone(Page(path))
    assert path.stat().st_size < 300_000


# ---- folders that are not whole


def test_a_run_without_evidence_says_so(write_run) -> None:
    page = Page(write_report(write_run()))
    assert "has no evidence.json" in page.text
    assert "Where student and teacher differ most" not in page.text


def test_an_interrupted_run_has_a_page_of_what_it_left(write_run) -> None:
    log = [row for row in log_rows() if row["step"] <= 26]
    record = without({**RECORD, "status": "running"}, "machine")
    page = Page(write_report(write_run(record=record, metrics=None, log=log)))
    assert "The run has not finished" in page.text
    assert "Its log ends at step 26." in page.text
    assert ">joint</text>" in page.source  # it was in its second stage
    assert "cos_nce" in page.text


def test_a_log_cut_in_mid_line_is_read_up_to_there(write_run) -> None:
    folder = write_run()
    text = (folder / "log.jsonl").read_text()
    (folder / "log.jsonl").write_text(text[: len(text) // 2] + "\x00\n[1, 2]\n")
    page = Page(write_report(folder))
    assert "lines of log.jsonl are broken and left out" in page.text
    assert "cos_nce" in page.text


def test_a_loss_that_is_no_number_is_told_and_not_drawn(write_run) -> None:
    log = [{**row, "loss": float("nan"), "cos_nce": float("inf")} if row["step"] == 30 else row for row in log_rows()]
    page = Page(write_report(write_run(log=log)))
    assert "The log holds NaN or infinity, at step 30 first" in page.text
    charts = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert not re.search(r"\b(nan|inf)\b", charts)


@pytest.mark.parametrize("name", ["metrics.json", "evidence.json", "bench.json", "log.jsonl"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"a": ' * 5000, b"null"])
def test_a_damaged_file_leaves_a_page(write_run, name: str, content: bytes) -> None:
    folder = write_run(evidence=class_evidence(), bench={"rows": []})
    (folder / name).write_bytes(content)
    page = Page(write_report(folder))
    assert name in page.text or name == "log.jsonl"
    assert_stands_alone(page)


@pytest.mark.parametrize("path", [["student"], ["student", "dev"], ["student", "dev", "metrics"], ["teacher"], ["sts"]])
@pytest.mark.parametrize("value", [None, 3, "x", [], {}])
def test_metrics_of_another_shape_leave_a_page(write_run, path: list[str], value) -> None:
    folder = write_run(metrics=changed({**METRICS, "sts": {}}, path, value), log=[])
    assert "Record" in Page(write_report(folder)).text


@pytest.mark.parametrize("key", ["settings", "data", "preflight", "stages", "machine", "warnings", "queue"])
@pytest.mark.parametrize("value", [None, 3, "x", [3], {"a": 1}, [{"a": 1}]])
def test_a_record_of_another_shape_leaves_a_page(write_run, key: str, value) -> None:
    folder = write_run(record={**RECORD, key: value}, log=[{"loss": 1.0, "step": 2}])
    assert "Results" in Page(write_report(folder)).text


@pytest.mark.parametrize("key", ["classes", "examples", "histogram", "rows", "kind"])
@pytest.mark.parametrize("value", [None, 3, "x", [3], {"a": 1}, [{"a": 1}]])
def test_evidence_of_another_shape_leaves_a_page(write_run, key: str, value) -> None:
    folder = write_run(evidence={**class_evidence(), key: value}, log=[])
    assert "Results" in Page(write_report(folder)).text


@pytest.mark.parametrize("counts", [[], [5], ["5", 5], [10**400] * 2, {"5": 5}])
def test_a_histogram_of_other_counts_leaves_a_page(write_run, tmp_path: Path, counts) -> None:
    damaged = write_run(evidence=changed(class_evidence(), ["histogram", "counts"], counts), log=[])
    other = write_run("other", evidence=class_evidence(), log=[])
    assert "Where student and teacher differ most" in Page(write_report(damaged)).text
    assert "Comparison of student, other" in compare([damaged, other], tmp_path / "page.html").read_text()


def test_numbers_beyond_all_bounds_leave_a_page(write_run) -> None:
    huge = 10**400
    metrics = changed(METRICS, ["student", "dev", "metrics", "f1"], huge)
    page = Page(write_report(write_run(metrics=metrics, log=[*log_rows(), {"loss": 1.0, "step": huge}])))
    assert page.row("dev F1") == ["dev F1", "92.87 %", "–", ""]
    assert "1 of 26 lines of log.jsonl are broken" in page.text


def test_answers_that_are_no_list_leave_a_page(write_run) -> None:
    for side in (5, "abc", {"a": 1}, [5]):
        evidence = changed(class_evidence(), ["examples", 0, "ours"], side)
        assert "Where student and teacher differ most" in Page(write_report(write_run(evidence=evidence))).text


def test_a_bundle_that_cannot_be_read_is_named_by_its_place(write_run) -> None:
    folder = write_run()
    (folder / "exports" / "int8").mkdir(parents=True)
    (folder / "exports" / "int8" / "bundle.json").write_text("{")
    assert "exports/int8/bundle.json cannot be read" in Page(write_report(folder)).text


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_folder_without_a_run_is_the_users_mistake(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    if content is not None:
        (folder / "run.json").write_text(content)
    with pytest.raises(UserError, match="expected the folder of a run"):
        write_report(folder)
    with pytest.raises(UserError, match="which is not a folder"):
        write_report(tmp_path / "nowhere")


def test_a_report_that_cannot_be_written_is_the_users_mistake_and_leaves_the_old_one(write_run, tmp_path: Path) -> None:
    folder = write_run()
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        compare([folder], tmp_path / "taken")
    for nameless in (".", "/"):
        with pytest.raises(UserError, match="it is a folder"):
            compare([folder], nameless)
    with pytest.raises(UserError, match="cannot write"):
        compare([folder], tmp_path / "no" / "such" / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student", "taken"]


def test_a_finished_run_survives_whatever_goes_wrong_with_its_report(write_run, monkeypatch, caplog) -> None:
    folder = write_run()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with caplog.at_level(logging.WARNING):
        leave_report(folder, class_evidence)
    assert "No space left on device" in caplog.text
    assert not (folder / "report.html").exists()
    monkeypatch.undo()
    caplog.clear()
    leave_report(folder, lambda: {}["missing"])
    assert "its answers could not be written" in caplog.text
    assert "has no evidence.json" in Page(folder / "report.html").text


# ---- several runs


def test_two_runs_side_by_side(write_run, tmp_path: Path) -> None:
    metrics = changed(METRICS, ["student", "test", "metrics", "accuracy"], 0.8911)
    record = changed(changed(RECORD, ["settings", "method"], "kd"), ["settings", "seed"], 1)
    first = write_run("lrc", evidence=class_evidence())
    second = write_run("kd", record=record, metrics=metrics, evidence=class_evidence(rows=60))
    page = Page(compare([first, second], tmp_path / "both.html"))
    assert page.row("test accuracy") == ["test accuracy", "85.26 %", "89.11 %"]
    assert page.row("student", below="lrc")[1].startswith("85.26 %")
    assert page.row("student", below="kd")[1].startswith("89.11 %")
    assert page.row("method") == ["method", "lrc_bert", "kd"]
    assert page.row("seed") == ["seed", "0", "1"]
    assert not any(row and row[0] == "epochs" for row in page.rows)
    assert page.source.count("<h3>cos_nce</h3>") == 3  # together, and in each run
    assert set(CLASSES) <= {row[0].strip() for row in page.rows if row}
    assert len(page.ids) == len(set(page.ids))
    assert_stands_alone(page)


def test_runs_that_do_not_compare_are_said_not_to(write_run, tmp_path: Path) -> None:
    other = write_run("other", record={**RECORD, "data_fingerprint": "ee"}, metrics=changed(METRICS, ["metric"], "f1"))
    page = Page(compare([write_run(), other], tmp_path / "page.html"))
    assert "different data" in page.text
    assert "different metrics" in page.text


def keys(page: Page) -> list[dict[str, str]]:
    """Below each chart: the names of its marks, and the style of each."""
    lists = re.findall(r'<ul class="key">(.*?)</ul>', page.source, re.DOTALL)
    return [{name: style for style, name in re.findall(r'style="(.*?)".*?<span>(.*?)</span>', one)} for one in lists]


@pytest.mark.filterwarnings("error")
def test_names_of_runs_may_be_long_or_look_like_formulas(write_run, tmp_path: Path) -> None:
    names = ["seed-0-of-" + 12 * "a-long-name-", r"$\frac{$", "_hidden", "$a^b$"]
    runs = [write_run(name, evidence=class_evidence()) for name in names]
    write_bundle(runs[1] / r"$\b{$", "int8", 0.87, 2.0, 14_500_000)
    page = Page(compare(runs, tmp_path / "page.html"))
    together = keys(page)[:6]  # the dev score, the loss and its three terms, the histogram
    assert all(set(one) == set(names) for one in together)
    assert r">$\frac{$: onnxruntime int8</text>" in page.source, "short, so beside its point"
    assert_stands_alone(page)


def test_a_run_has_its_colour_in_every_chart(write_run, tmp_path: Path) -> None:
    log = [without(row, "soft") for row in log_rows()]
    runs = [
        write_run("a", evidence=class_evidence()),
        write_run("b", log=log),
        write_run("c", evidence=class_evidence()),
    ]
    found = keys(Page(compare(runs, tmp_path / "page.html")))
    assert any(set(one) == {"a", "c"} for one in found)
    assert len({one["c"] for one in found if "c" in one}) == 1


def test_a_chart_of_many_models_numbers_them(write_run, tmp_path: Path) -> None:
    def smaller(n: int):
        return changed(METRICS, ["student", "size_mb"], 50.0 - n)

    runs = [write_run(f"run-{n}", metrics=smaller(n)) for n in range(9)]
    page = Page(compare(runs, tmp_path / "page.html"))
    assert list(keys(page)[0]) == ["teacher", *(f"run-{n}" for n in range(9))]
    chart = page.source[page.source.index("<svg") : page.source.index("</svg>")]
    assert {str(n) for n in range(1, 11)} <= set(re.findall(r">\s*(\d+)\s*</text>", chart))


def test_only_what_was_not_timed_is_said_not_to_be(write_run, tmp_path: Path) -> None:
    runs = [write_run("timed"), write_run("untimed")]
    write_bundle(runs[0] / "int8", "int8", 0.87, 2.0, 14_500_000)
    page = Page(compare(runs, tmp_path / "page.html"))
    assert "Not timed, so not drawn: teacher, untimed." in page.text
    assert "Speed: the exports' gates, 2 threads, a text at a time." in page.text


def test_speeds_that_do_not_compare_are_said_not_to(write_run, tmp_path: Path) -> None:
    row = {"model": "student", "runtime": "torch", "precision": "fp32", "length": "data", "batch": 1, "p50_ms": 5.0}
    benched = write_run("benched", bench={"threads": 2, "rows": [row]})
    gated, elsewhere = write_run("gated"), write_run("elsewhere", {**RECORD, "machine": {"cpu": "another"}})
    for run in (gated, elsewhere):
        write_bundle(run / "int8", "int8", 0.87, 2.0, 14_500_000)
    warning = "Speed was not measured in the same way or on the same machine"
    assert warning in Page(compare([gated, benched], tmp_path / "page.html")).text
    assert warning in Page(compare([gated, elsewhere], tmp_path / "page.html")).text
    assert warning not in Page(compare([gated, write_run("untimed")], tmp_path / "page.html")).text


def test_runs_of_one_name_and_an_unfinished_one(write_run, tmp_path: Path) -> None:
    runs = [write_run("a/student"), write_run("b/student"), write_run("c", {**RECORD, "status": "running"}, None)]
    page = Page(compare(runs, tmp_path / "page.html"))
    assert page.row("score")[1:] == ["a/student", "b/student", page.row("score")[-1]]
    assert "There are no scores: the run has not finished" in page.text


def test_one_run_compared_is_its_own_report(write_run, tmp_path: Path) -> None:
    folder = write_run(evidence=class_evidence())
    alone = write_report(folder).read_text()
    assert compare([folder], tmp_path / "page.html").read_text() == alone
    with pytest.raises(UserError, match="at least one run"):
        compare([], tmp_path / "page.html")


def test_pages_let_nothing_in(write_run, tmp_path: Path) -> None:
    runs = [write_run(), write_run("another")]
    assert_lets_nothing_in(Page(write_report(runs[0])))
    assert_lets_nothing_in(Page(compare(runs, tmp_path / "both.html")))


@pytest.mark.usefixtures("drawn_anew")
def test_the_same_folder_gives_the_same_page(write_run) -> None:
    folder = write_run(evidence=class_evidence())
    assert len({write_report(folder).read_text() for _ in range(2)}) == 1


def test_the_evidence_is_json_that_others_read(write_run) -> None:
    json.dumps(class_evidence(), allow_nan=False)
