"""What the end of a run says against it: the right sentence of a run that went wrong, none of one that went well."""

import math
import re
from copy import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from finished_runs import finished, log, logits, right_on
from torch import nn

from contrastill import Distillation
from contrastill.methods import Stage
from contrastill.settings import Contrast, EmbeddingDistillation, Finetuning
from contrastill.tasks.pairs import PairScores
from contrastill.training.doubts import Curve, Remedies, fell, missed_classes, noise_of, still_rises
from contrastill.training.embedding_doubts import of_distillation, of_pairs
from contrastill.training.labelled_checks import classes_have_rows, dev_tells, teacher_knows_classes
from contrastill.training.outcome import warnings

LABELS = np.arange(300) % 3
MANY = np.arange(154) % 77
NUMBERS = np.linspace(0, 5, 300)
NOISE = np.random.default_rng(0).normal(size=300)
TAGS = np.eye(8)[np.arange(400) % 8] + np.eye(8)[np.arange(400) * 3 % 8] > 0.5
SURE = 8.0 * TAGS - 4
UNEVEN = (np.arange(300) % 20 == 0).astype(int)  # 95 % of one class
FALLING = np.linspace(1.1, 0.1, 20)
FLAT = [0.80, 0.90, 0.93, 0.94, 0.945, 0.95, 0.95, 0.95, 0.95, 0.95]
RISING = np.linspace(0.30, 0.75, 10)


def sentences(run: Any, losses: Any = FALLING, scores: Any = FLAT, **more: Any) -> list[str]:
    return warnings(run, log(losses, scores, run.task.metrics[0], **more))


# ---- nothing is wrong

WELL: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "classes": (logits(right_on(LABELS, 0.95), 3), LABELS, {}),
    "two rows of each of 77 classes, half of them right": (logits(right_on(MANY, 0.5), 77), MANY, {}),
    "one class in twenty, found in half of its rows": (logits(UNEVEN * (np.arange(300) % 40 == 0), 2), UNEVEN, {}),
    "scores": (NUMBERS[:, None] + 0.5 * NOISE[:, None], NUMBERS, {}),
    "labels": (SURE, TAGS.astype(float), {}),
    "labels, one of eight never found": (np.where(np.arange(8) == 2, -4.0, SURE), TAGS.astype(float), {}),
    "a student two points below its teacher": (
        logits(right_on(LABELS, 0.93), 3),
        LABELS,
        {"theirs": logits(right_on(LABELS, 0.95), 3)},
    ),
    "a student without the classes that its teacher misses": (
        logits(LABELS % 2, 3),
        LABELS,
        {"theirs": logits(LABELS % 2, 3)},
    ),
    "a low rate that was enough": (logits(right_on(LABELS, 0.95), 3), LABELS, {"learning_rate": 1e-6}),
}


@pytest.mark.parametrize("case", WELL)
@pytest.mark.parametrize("scores", [FLAT, [], [0.9], [0.95, 0.9, 0.94]], ids=["flat", "none", "one", "three"])
def test_nothing_is_said_against_a_run_that_went_well(case: str, scores: list[float]) -> None:
    answers, labels, more = WELL[case]
    assert sentences(finished(answers, labels, **more), scores=scores) == []


def test_one_more_row_right_at_the_end_of_a_small_dev_set_is_no_rise() -> None:
    labels = np.arange(30) % 3
    for earlier, later in ((26, 29), (28, 30)):
        scores = [earlier / 30] * 8 + [later / 30] * 2
        assert sentences(finished(logits(right_on(labels, 0.95), 3), labels), scores=scores) == []


@pytest.mark.parametrize("rows", [30, 200, 1000])
def test_scores_that_only_vary_from_check_to_check_are_seldom_doubted(rows: int) -> None:
    """Three rows in four are always right, one in ten always wrong, the others as a coin falls."""
    random, said = np.random.default_rng(0), 0
    for _ in range(400):
        right = random.choice([1.0, 0.5, 0.0], rows, p=[0.75, 0.15, 0.1])
        curve = Curve(
            "accuracy", range(100, 1100, 100), [float((random.random(rows) < right).mean()) for _ in range(10)]
        )
        noise, remedies = noise_of(float(right.mean()), rows), Remedies(5e-5, 5e-5, 4, 1000)
        said += bool(still_rises(curve, noise, "") or fell(curve, noise, True, remedies))
    assert said <= 0.03 * 400


def test_a_stage_that_begins_low_is_judged_by_itself() -> None:
    two = [*log(FALLING, [0.3] * 5, steps=500), *({**row, "step": row["step"] + 500} for row in log(FALLING, FLAT[5:]))]
    for row in two[len(two) // 2 :]:
        row["stage"] = 2 * row.get("stage", 0)
    assert warnings(finished(logits(right_on(LABELS, 0.95), 3), LABELS), two) == []


# ---- nothing was learnt

RATES = {
    0.01: "try --learning-rate 5e-05 (it was 0.01)",
    1e-7: "try --learning-rate 5e-05 (it was 1e-07)",
    5e-5: "try --epochs 8 (it was 4)",
}


@pytest.mark.parametrize("rate", RATES)
def test_a_run_that_learnt_nothing_gets_one_sentence_with_one_thing_to_change(rate: float) -> None:
    stuck, chance = np.full(20, math.log(3)), np.random.default_rng(0).integers(0, 3, 300)
    learnt = "the loss on labels ended at 1.1, no better than the 1.1 of a model that gives each class its share"
    cases = {
        "answers 'music' to every dev text": finished(logits(np.ones(300, int), 3), LABELS, learning_rate=rate),
        "does not differ from that of always giving the commonest answer (0.333)": finished(
            logits(chance, 3), LABELS, learning_rate=rate
        ),
        learnt: finished(logits(right_on(LABELS, 0.6), 3), LABELS, learning_rate=rate),
    }
    for words, run in cases.items():
        [said] = sentences(run, stuck, RISING)
        assert words in said
        slower = "try --learning-rate 2e-05 (it was 5e-05)"
        collapsed = "every dev text" in words and rate == 5e-5  # nothing is clearly wrong, but for the answers
        assert said.endswith(f"; {slower if collapsed else RATES[rate]}")


@pytest.mark.parametrize("attention", [20.0, 1.0])
@pytest.mark.parametrize("option", ["--set relative=true", ""])
def test_a_term_that_was_nearly_all_of_the_loss_is_named_where_the_student_learnt_nothing(attention, option) -> None:
    nothing, well = (finished(logits(said, 3), LABELS, theirs=logits(LABELS, 3)) for said in (0 * LABELS, LABELS))
    rows = [{"step": n, "loss": attention + 0.5, "attention": attention, "hidden": 0.5, "stage": 1} for n in range(5)]
    rows += [{"step": n, "loss": 0.9, "soft": 0.9, "stage": 2} for n in range(5, 9)]
    stages = (Stage("layers", {"attention": 1.0, "hidden": 1.0}), Stage("answers", {"soft": 1.0}))
    for run in nothing, well:
        vars(run.method).update(stages=stages, balanced_by=option)
    said = [one for one in warnings(nothing, rows) if "hardly learnt" in one]
    named = "98% of the loss of stage 'layers' was 'attention': the other terms were hardly learnt; try "
    assert said == ([named + option] if option and attention == 20 else [])
    assert warnings(well, rows) == []


def test_few_steps_ask_for_more_of_them() -> None:
    [said] = sentences(finished(logits(right_on(LABELS, 0.6), 3), LABELS, epochs=1.0), [1.09, 1.08, 1.07], steps=9)
    assert said.endswith("try --epochs 23 (it was 1)")


@pytest.mark.parametrize(
    ("run", "chance", "words"),
    [
        (finished(NUMBERS[:, None] + 2 * NOISE[:, None], NUMBERS), np.var(NUMBERS), "always gives the mean score"),
        (
            finished(SURE, TAGS.astype(float)),
            float(np.mean([-p * np.log(p) - (1 - p) * np.log(1 - p) for p in TAGS.mean(0)])),
            "gives each label its share of the rows",
        ),
        (finished(logits(right_on(UNEVEN, 0.99), 2), UNEVEN), -0.95 * np.log(0.95) - 0.05 * np.log(0.05), "its share"),
    ],
    ids=["variance of scores", "entropy of labels", "entropy of uneven classes"],
)
@pytest.mark.parametrize("dev", [True, False])
def test_a_loss_near_that_of_ignorance_is_said_of_each_task_with_dev_and_without(
    run: Any, chance: float, words: str, dev: bool
) -> None:
    run = copy(run)
    if not dev:
        run.splits = {}
    [said] = sentences(run, np.full(20, 0.95 * chance))
    assert f"ended at {0.95 * chance:.3g}, little below the {chance:.3g} of a model that " in said
    assert words in said
    assert sentences(run, np.full(20, 0.85 * chance)) == []
    run.unlabelled = 1  # such rows count as losses of 0
    assert sentences(run, np.full(20, chance)) == []


def test_the_loss_on_labels_is_read_of_a_student_too() -> None:
    run = finished(logits(right_on(LABELS, 0.5), 3), LABELS, theirs=logits(LABELS, 3))
    history = [{**row, "loss": 0.1} if "loss" in row else row for row in log(np.full(20, 1.09), FLAT)]
    [said] = warnings(run, history)
    assert "the loss on labels ended at 1.09" in said


def test_one_answer_of_a_regression_is_said() -> None:
    [said] = sentences(finished(np.full((300, 1), 2.5), NUMBERS))
    assert said.startswith("the model answers 2.5 to every dev text; ")
    [said] = sentences(finished(NOISE[:, None], NUMBERS))
    assert "does not differ" in said


def test_no_label_for_any_text_is_said() -> None:
    [said] = sentences(finished(SURE - 8, TAGS.astype(float)))
    assert said.startswith("the model answers 'no label' to every dev text; ")


def test_uneven_classes_are_named_only_where_the_largest_answers_everything() -> None:
    [said] = sentences(finished(logits(np.zeros(300, int), 2), UNEVEN))
    assert said == (
        "the model answers 'class 0' to every dev text, as 95% of the training rows have it; add rows with others, or "
        "leave out some of these"
    )
    [said] = sentences(finished(logits(np.zeros(300, int), 2), UNEVEN, learning_rate=1e-7))
    assert said.endswith("try --learning-rate 5e-05 (it was 1e-07)")


def test_too_few_rows_of_others_ask_for_more_rows() -> None:
    few = np.r_[np.zeros(40, int), 1, 1]
    [said] = sentences(finished(logits(np.zeros(42, int), 2), few))
    assert said.endswith("of which 2 have another label: too few to tell; score it on more rows (--dev FILE)")
    answers, labels = np.array([0, 1, 2, 0, 0, 0, 0, 1]), np.array([0, 1, 2, 0, 1, 2, 1, 0])
    run = finished(logits(answers, 3), labels)
    [said] = sentences(run)
    assert said.endswith("; score it on more rows (--dev FILE)")
    [said] = sentences(run, np.full(20, 1.05))  # of 1.08, the entropy of these classes
    assert said.endswith("; try --epochs 8 (it was 4)")


# ---- something was learnt, and more could be


def test_a_third_of_the_classes_without_a_right_answer_is_said() -> None:
    said = [n if n % 2 else n - 1 for n in np.arange(77).clip(1)]
    run = finished(logits(np.array(said)[MANY], 77), MANY, train=np.repeat(np.arange(77), 20))
    [doubt] = sentences(run)
    assert doubt.startswith(
        "39 of the 77 classes on dev have an F1 of 0 (class 0, class 2, class 4, class 6, class 8, …)"
    )
    assert doubt.endswith("; try --epochs 8 (it was 4)")
    run.labels = np.repeat(np.arange(77), 3)
    [doubt] = sentences(run)
    assert doubt.endswith(", with 3 training rows in the median; add rows of them, or merge them with others")
    known = finished(logits(np.array(said)[MANY], 77), MANY, theirs=logits(MANY, 77))
    assert any("39 of the 77 classes" in doubt for doubt in sentences(known))
    some = np.where(np.arange(8) < 3, -4.0, SURE)
    [doubt] = sentences(finished(some, TAGS.astype(float)))
    assert doubt.startswith("3 of the 8 labels on dev have an F1 of 0")


def test_classes_missed_by_luck_are_none() -> None:
    for there, missed, doubted in (
        ([1] * 30, 20, False),
        ([1] * 30, 21, True),
        ([9] * 30, 10, True),
        ([9] * 30, 9, False),
    ):
        found = np.r_[np.zeros(missed), np.ones(30 - missed)]
        seen, which = missed_classes(np.array(there), found, [str(n) for n in range(30)])
        assert bool(seen) == doubted
        assert which.sum() == missed


def test_a_dev_score_that_still_rises_is_said() -> None:
    run = finished(logits(right_on(LABELS, 0.75), 3), LABELS)
    [said] = sentences(run, scores=RISING)
    assert said == (
        "dev accuracy still rose at the end, from 0.55 in the first two thirds to 0.75 (noise 0.051); "
        "try --epochs 8 (it was 4)"
    ).replace("0.051", re.search(r"noise ([\d.]+)", said)[1])  # type: ignore[index]
    assert sentences(run, scores=[*RISING, *[RISING[-1]] * 8]) == []
    student = finished(logits(right_on(LABELS, 0.75), 3), LABELS, theirs=logits(LABELS, 3))
    [said] = sentences(student, scores=RISING)
    assert ", and the teacher has 1; try --epochs 8" in said


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"learning_rate": 1e-6}, "try --learning-rate 5e-05 (it was 1e-06)"),
        ({"start": "random"}, "try --start inherit (it was random)"),
        ({}, "try --student 4L (it was 4L-312)"),
    ],
)
def test_a_student_that_stays_at_its_start_far_below_its_teacher_is_said(settings: Any, advice: str) -> None:
    run = finished(logits(right_on(LABELS, 0.7), 3), LABELS, theirs=logits(LABELS, 3), **settings)
    [said] = sentences(run, scores=[0.7] * 10)
    assert said.startswith("dev accuracy is no better than at the first check (0.7, now ")
    assert said.endswith(f"and the teacher has 1; {advice}")
    assert sentences(run, scores=[0.4, *[0.7] * 9]) == []


def test_training_that_harmed_its_start_or_gained_nothing_is_said() -> None:
    run = finished(logits(right_on(LABELS, 0.9), 3), LABELS)
    vars(run)["start"] = (0.9, {})
    [said] = sentences(run, scores=[0.6, 0.7, 0.75, 0.7, 0.72])
    assert said == (
        "dev accuracy was 0.9 before training, and 0.75 at its best check; try --learning-rate 2e-05 (it was 5e-05)"
    )
    assert sentences(run, scores=[0.89, 0.9, 0.9, 0.9, 0.9]) == []  # as good as a linear probe is no fault
    run.settings = replace(run.settings, learning_rate=1e-7)
    [said] = sentences(run, scores=[0.9] * 5)
    assert said.endswith("was 0.9 before training, and 0.9 at its best; try --learning-rate 5e-05 (it was 1e-07)")
    student = finished(logits(right_on(LABELS, 0.7), 3), LABELS, theirs=logits(LABELS, 3))
    vars(student)["start"] = (0.7, {})
    [said] = sentences(student, scores=[0.7] * 5)
    assert said.startswith("dev accuracy is no better than before training (0.7, now ")
    vars(student)["start"] = (0.4, {})
    assert sentences(student, scores=[0.7] * 5) == []


@pytest.mark.parametrize(
    ("losses", "advice"),
    [
        (np.linspace(1.1, 0.0, 20), "try --epochs 2 (it was 4)"),
        (np.linspace(1.1, 0.9, 20), "try --learning-rate 2e-05 (it was 5e-05)"),
    ],
    ids=["fitted", "unstable"],
)
def test_a_dev_score_that_was_best_early_and_fell_is_said(losses: Any, advice: str) -> None:
    run = finished(logits(right_on(LABELS, 0.8), 3), LABELS)
    [said] = sentences(run, losses, [0.7, 0.8, *np.linspace(0.79, 0.6, 8)])
    assert said == f"dev accuracy was best at step 200 of 1000 (0.8) and fell to 0.6; {advice}"


def test_a_loss_that_rose_is_said_unless_a_queue_filled() -> None:
    rising = [1.0, 0.9, 1.2, 3.0, 5.0, 7.0, 8.0]
    run = finished(logits(LABELS, 3), LABELS)
    run.unlabelled = 1
    [said] = sentences(run, rising)
    assert said.startswith("the loss rose from 1 to 6.67; try --learning-rate 2e-05")
    assert sentences(run, [*rising[:3], 1.1, 8.0, 0.9, 1.1]) == []  # one batch cost much
    queue = nn.Module()
    queue.register_buffer("pushed", torch.zeros(()))
    run.model = queue
    assert sentences(run, rising) == []


def test_a_start_with_random_layers_is_said() -> None:
    run = finished(logits(LABELS, 3), LABELS)
    run.method.student.model.doubt = "the layers are random"
    assert sentences(run) == ["the layers are random"]


# ---- texts without labels, and pairs


def vectors(untrained: float | None = 0.3, queue: int = 1000, **more: Any) -> Any:
    return SimpleNamespace(
        method=SimpleNamespace(queue=SimpleNamespace(size=queue)),
        batch_size=128,
        metric="agreement",
        untrained=untrained,
        scored=None,
        held=range(512),
        **more,
    )


def test_doubts_about_vectors() -> None:
    settings = EmbeddingDistillation(teacher=["t"], texts=["x"], out="o")
    curve, falling = [0.4, 0.5, 0.55, 0.6, 0.6, 0.6], np.linspace(6, 1, 20)

    def said(run: Any, losses: Any = falling, scores: Any = curve, **options: Any) -> list[str]:
        history = log(losses, scores, run.metric, term="ckd")
        return of_distillation(run, history, Remedies.of(settings, 1e-3, history))

    assert said(vectors()) == []
    chance = math.log(1128)
    [one] = said(vectors(), np.full(20, chance))
    assert f"the loss 'ckd' ended at {chance:.3g}, no better than" in one
    assert "cannot tell 1,128 texts apart; try --epochs 2 (it was 1)" in one
    [one] = said(vectors(untrained=0.59))
    assert one.startswith("agreement with the teacher is 0.6, 0.59 before training")
    assert said(vectors(untrained=0.95), scores=[0.95] * 6) == []  # nothing to gain
    [one] = said(vectors(), scores=RISING)
    assert "dev agreement still rose" in one


def test_doubts_about_pairs() -> None:
    settings = Contrast(model="m", pairs="p", out="o")

    def said(before: float, after: float, losses: Any = (3.0, 1.0, 0.5), differ: bool = True) -> list[str]:
        run: Any = SimpleNamespace(
            method=SimpleNamespace(queue=SimpleNamespace(size=0)),
            together=64,
            examples=SimpleNamespace(numbers=np.zeros((9, 3))),
            scores=SimpleNamespace(
                dev=SimpleNamespace(scores=range(1500)), differ=lambda: differ, found_less=lambda: None
            ),
            before={"dev": before},
            after={"dev": after},
            metric="spearman",
        )
        history = log(losses, [before, after, after], "spearman", term="contrast")
        return of_pairs(run, history, Remedies.of(settings, 5e-5, history))

    assert said(80, 82) == []
    assert said(80.2, 80.1, differ=False) == []
    [one] = said(80.2, 75.1)
    assert (
        one == "the dev score fell from 80.20 to 75.10: the start was better; try --learning-rate 2e-05 (it was 5e-05)"
    )
    [one] = said(80, 82, [math.log(128)] * 9)
    assert "cannot tell 128 texts apart" in one


def test_dev_pairs_differ_where_others_like_them_would_too() -> None:
    random, truth = np.random.default_rng(0), np.linspace(0, 5, 300)
    scores = PairScores(SimpleNamespace(scores=truth))
    scores.kept = {"before": truth + random.normal(size=300), "after": truth + 2 * random.normal(size=300)}
    assert scores.differ(samples=100)
    scores.kept["after"] = scores.kept["before"] + 0.05 * random.normal(size=300)
    assert not scores.differ(samples=100)


# ---- what is to be typed


@pytest.mark.parametrize("kind", [Finetuning, Distillation])
@pytest.mark.parametrize(
    ("rate", "epochs", "steps"), [(1e-7, 1, 8), (1e-5, 4.5, 500), (3e-4, 0.3, 5000), (1e-3, 20, 100), (0.9, 1, 10_000)]
)
def test_every_remedy_is_an_option_with_a_value_that_the_command_takes(
    kind: Any, rate: float, epochs: float, steps: int
) -> None:
    given = {"model": "m"} if kind is Finetuning else {"teacher": "t"}
    settings = kind(**given, data="d", out="o", learning_rate=rate, epochs=epochs)
    remedies = Remedies.of(settings, 1e-4, [{"step": steps}])
    said = [remedies.slower, remedies.longer, remedies.shorter(0.4), remedies.first]
    for one in said:
        name, value = re.fullmatch(r"try --(learning-rate|epochs) ([\de.+-]+) \(it was .*\)", one).groups()  # type: ignore[union-attr]
        kind.given({**given, "data": "d", "out": "o", name.replace("-", "_"): float(value)})
    assert float(remedies.slower.split()[2]) < rate
    assert float(remedies.shorter(0.4).split()[2]) < epochs < float(remedies.longer.split()[2])


# ---- what can be known before training


def failing(
    train: list[int], dev: list[int] | None, held_out: bool = True, share: float | None = 0.1
) -> dict[str, str]:
    """Name -> what was seen of the checks of rows that failed, of so many rows of each class."""
    rows = [np.repeat(np.arange(len(counts)), counts) for counts in (train, dev or train)]
    run = finished(logits(rows[1], len(train)), rows[1], train=rows[0])
    run.settings = replace(run.settings, dev_share=share)
    run.data.decisions = {"dev": "some rows of train, held out by class"} if held_out else {}
    if dev is None:
        run.splits = {}
    return {check.name: check.seen for check in (*classes_have_rows(run), *dev_tells(run)) if not check.ok}


def test_nothing_is_said_against_rows_that_do() -> None:
    assert failing([50] * 5, [60] * 5) == {}
    assert failing([50] * 5, None) == {}
    assert failing([50] * 5 + [2], [60] * 5 + [0]) == {}  # a score on dev would not show so few
    assert failing([50] * 5 + [0], [60] * 5 + [0]) == {}  # a class of the teacher's that does not occur here


@pytest.mark.parametrize(
    ("train", "dev", "name", "seen"),
    [
        (
            [50] * 4 + [1, 0],
            [60] * 6,
            "classes have rows",
            "1 of 6 classes have one training row (class 4) and 1 of 6 classes have rows in dev alone (class 5): they "
            "can hardly be learnt; add rows of them, or merge them with others",
        ),
        (
            [50] * 9 + [30],
            [60] * 9 + [0],
            "dev has the classes",
            "1 of 10 classes have no dev row (class 9), but 6% of the training rows: the score does not see them; "
            "try --dev-share 0.2 (it was 0.1)",
        ),
        (
            [400] * 3,
            [60] * 3,
            "dev is large enough",
            "a score on 180 rows is uncertain by about 5.8 points in either direction, and the checkpoint is chosen "
            "by it; try --dev-share 0.14 (it was 0.1)",
        ),
        (
            [90] * 3,
            [10] * 3,
            "dev is large enough",
            "a score on 30 rows is uncertain by about 14.3 points in either direction, and the checkpoint is chosen "
            "by it; give at least 246 rows with --dev FILE",
        ),
    ],
)
def test_rows_that_tell_little_are_said_with_what_to_change(train: Any, dev: Any, name: str, seen: str) -> None:
    assert failing(train, dev) == {name: seen}


def test_a_dev_file_is_made_longer_not_its_share() -> None:
    [seen] = failing([400] * 3, [60] * 3, held_out=False).values()
    assert seen.endswith("; give at least 246 rows with --dev FILE")


def test_a_share_that_was_not_given_is_that_of_the_rows() -> None:
    [seen] = failing([400] * 3, [60] * 3, share=None).values()
    assert seen.endswith("; try --dev-share 0.18 (it was 0.13)")


def test_labels_with_one_row_are_said_and_scores_have_none() -> None:
    tags = np.zeros((300, 3))
    tags[:, 0], tags[::2, 1], tags[7, 2] = 1, 1, 1
    [check] = classes_have_rows(finished(8 * tags - 4, tags))
    assert check.seen.startswith("1 of 3 labels have one training row (sport)")
    assert classes_have_rows(finished(NUMBERS[:, None], NUMBERS)) == []


def test_a_teacher_that_misses_classes_is_said_before_the_student_learns_from_it() -> None:
    run = finished(logits(LABELS, 3), LABELS, theirs=logits(LABELS % 2, 3))
    run.splits["dev"].tasks["theirs"] = run.task
    [check] = teacher_knows_classes(run)
    assert (check.ok, check.fatal) == (False, False)
    assert check.seen.startswith("1 of the 3 classes on dev have an F1 of 0 (sport): the student can't learn them")
    run.splits["dev"].kept["theirs"] = logits(LABELS, 3)
    assert teacher_knows_classes(run)[0].ok
