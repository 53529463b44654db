"""The page of a language model's run: what its models answered, side by side, and three numbers of each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import RECORD, Page

from contrastill.evaluation.language import AnswerScores
from contrastill.report import compare, write_report
from contrastill.report.next_steps import next_steps
from contrastill.report.paired import Answers, by_row, difference
from contrastill.report.run import read_run
from contrastill.report.training import terms
from contrastill.report.written import KEPT, SAMPLES, SHOWN, of_written, samples

Write = Callable[..., Path]
END = 0
EVIL = "<script>alert('x')</script>&amp;<b>"


def decode(ids: Sequence[int]) -> str:
    return "".join(chr(each) for each in ids if each != END)


def ids(text: str, end: bool = True) -> list[int]:
    return [*map(ord, text), *([END] if end else [])]


def rows(count: int, prompt: str = "What?") -> list[dict[str, Any]]:
    return [{"prompt": ids(f"{prompt}{n}", end=False), "answer": ids(f"answer {n}")} for n in range(count)]


def kept(count: int, wrong: Sequence[int] = (), seed: int = 0, teacher: bool = True, **more: Any) -> dict[str, Any]:
    """Of a teacher that is always right, and a student that is not on some rows."""
    asked = rows(count)
    right = [row["answer"] for row in asked]
    ours = [ids("no") if n in wrong else answer for n, answer in enumerate(right)]
    written = {"teacher": right, "student": ours} if teacher else {"model": ours}
    return {**of_written(asked, written, decode, (END,), seed), "split": "dev", **more}


def one(given: list[int], student: list[int], prompt: str = "What?") -> dict[str, Any]:
    """A single row, whose teacher answers as given."""
    asked = [{"prompt": ids(prompt, end=False), "answer": given}]
    return {**of_written(asked, {"teacher": [given], "student": [student]}, decode, (END,), 0), "split": "dev"}


def split(rows: int, **metrics: float) -> dict[str, Any]:
    intervals = {name: [value - 0.125, value + 0.125] for name, value in metrics.items()}
    return {"metrics": metrics, "rows": rows, "intervals": intervals}


STUDENT = {"dev": split(50, kl=0.25, perplexity=3.5, exact_match=0.375), "parameters": 21_472, "size_mb": 12.5}
TEACHER = {"dev": split(50, perplexity=3.25, exact_match=0.5), "parameters": 187_000, "size_mb": 125.0}
TUNED = {"dev": split(50, perplexity=3.5, exact_match=0.375), "parameters": 21_472, "size_mb": 12.5}
METRICS = {"steps": 40, "task": "sums", "metric": "kl", "train_rows": 64, "teacher": TEACHER, "student": STUDENT}
ALONE = {"steps": 40, "task": "sums", "metric": "perplexity", "train_rows": 64, "model": TUNED}
RUN = {
    **RECORD,
    "settings": {"data": "sums", "teacher": "runs/teacher/model", "method": "skd", "student": "2L", "seed": 0},
    "data": {"task": "sums", "kind": "prompts", "splits": {"train": {"rows": 64}, "dev": {"rows": 50}}},
    "stages": [{"name": "distil", "weights": {"soft": 1.0}, "share": 1.0, "fresh": False}],
}
LOG = [
    {"loss": 2.0 - step / 40, "soft": 2.0 - step / 40, "accepted": 0.75 + step / 400, "stage": 1, "step": step}
    for step in range(2, 42, 2)
]


@pytest.fixture
def page_of(write_run: Write) -> Callable[..., Page]:
    def page(evidence: dict[str, Any] | None, **more: Any) -> Page:
        wanted = {"record": RUN, "metrics": METRICS, "log": LOG, **more}
        return Page(write_report(write_run(evidence=evidence, **wanted)))

    return page


# ---- the samples


def test_ten_at_most_half_of_them_rows_on_which_student_and_teacher_differ() -> None:
    found = kept(200, wrong=range(0, 200, 4))
    differ = [each["differ"] for each in found["samples"]]
    assert differ == [True] * (SAMPLES // 2) + [False] * (SAMPLES // 2)
    assert (found["rows"], found["differ"], found["equal_answers"]) == (200, 50, 0.75)
    assert len({each["prompt"] for each in found["samples"]}) == SAMPLES


@pytest.mark.parametrize(
    ("count", "wrong", "differ"), [(3, [], 0), (3, [1], 1), (12, range(9), 7), (12, range(12), 10)]
)
def test_few_rows_of_a_kind_leave_room_for_the_other(count: int, wrong: Sequence[int], differ: int) -> None:
    found = kept(count, wrong)["samples"]
    assert len(found) == min(count, SAMPLES)
    assert sum(each["differ"] for each in found) == differ


def test_the_seed_chooses_and_chooses_the_same_again() -> None:
    first, again, other = (kept(200, range(60), seed)["samples"] for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_model_without_a_teacher_has_its_answers_alone() -> None:
    found = kept(20, wrong=[3], teacher=False)
    assert (found["equal_answers"], found["differ"]) == (None, 0)
    assert all(list(each["answers"]) == ["model"] for each in found["samples"])


def test_an_answer_is_right_only_with_the_same_tokens_and_the_same_end() -> None:
    def said(student: list[int]) -> dict[str, Any]:
        answer: dict[str, Any] = one(ids("yes"), student)["samples"][0]["answers"]["student"]
        return answer

    assert said(ids("yes")) == {"text": "yes", "right": True}
    assert said(ids("yes", end=False)) == {"text": "yes", "right": False, "differs": "end"}
    assert said([END, *ids("yes")]) == {"text": "yes", "right": False, "differs": "tokens"}
    assert said(ids("no")) == {"text": "no", "right": False}
    assert said([]) == {"text": "", "right": False}


def test_texts_are_whole_up_to_their_limits() -> None:
    found = one(ids("x" * KEPT), ids("y" * 5_000))["samples"][0]
    assert found["given"] == "x" * KEPT
    assert found["answers"]["student"]["text"] == "y" * KEPT + " …"


# ---- the page


def test_no_text_of_the_data_is_markup(page_of: Callable[..., Page]) -> None:
    page = page_of(one(ids(EVIL), ids(f"{EVIL}!"), prompt=f"{EVIL}?"))
    assert page.tags.count("script") == 1, "the page's own"
    for text in (f"{EVIL}?", EVIL, f"{EVIL}!"):
        assert text in page.text
    assert "<b>" not in page.source


def test_right_and_wrong_are_told_by_sign_and_word(page_of: Callable[..., Page]) -> None:
    page = page_of(one(ids("yes"), ids("no")))
    assert "What? given answer yes teacher ✓ right yes student ✗ wrong no" in page.text
    assert "1 of 1 rows of dev, chosen by the run's seed; the first of the 1 that only one" in page.text
    assert "the same text, ended elsewhere" in page_of(one(ids("yes"), ids("yes", end=False))).text


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_an_answer_with_nothing_to_see_is_called_empty(text: str, page_of: Callable[..., Page]) -> None:
    assert "student ✗ wrong (empty)" in page_of(one(ids("yes"), ids(text))).text
    assert "given answer (empty)" in page_of(one(ids(text), ids("no"))).text


def test_a_long_text_is_cut_and_lines_and_directions_are_kept(page_of: Callable[..., Page]) -> None:
    page = page_of(one(ids("one\n  two"), ids("y" * 5_000), prompt="שלום"))
    assert "y" * SHOWN + " …" in page.text
    assert "y" * (SHOWN + 1) not in page.source
    assert '<div class="written" dir="auto">one\n  two</div>' in page.source
    assert '<blockquote dir="auto">שלום</blockquote>' in page.source


def test_the_page_shows_ten_samples_at_most_and_the_share_of_equal_answers(page_of: Callable[..., Page]) -> None:
    found = kept(40, wrong=range(10))
    page = page_of({**found, "samples": found["samples"] * 3})
    assert page.text.count("given answer answer") == SAMPLES
    assert "Student and teacher give the same answer to 75.0 % of the 40 rows of dev." in page.text


def test_a_model_alone_is_shown_without_a_teacher(page_of: Callable[..., Page]) -> None:
    page = page_of(kept(20, wrong=[3], teacher=False), record={**RUN, "command": "finetune"}, metrics=ALONE)
    assert "10 of 20 rows of dev, chosen by the run's seed. A model writes" in page.text
    assert "teacher ✓" not in page.text
    assert page.row("model", "perplexity, dev", "exact match, dev")
    assert page.row("model", "3.5000 3.375 to 3.625", "37.50 % 25.0 to 50.0")


@pytest.mark.parametrize(
    "damaged",
    [
        3,
        [3],
        [{}],
        [{"answers": 3}],
        [{"answers": {"student": 3}}],
        [{"answers": {"student": {"text": 3, "right": 4}}}],
    ],
)
def test_damaged_samples_break_no_page(damaged: Any, page_of: Callable[..., Page]) -> None:
    assert page_of({"kind": "language", "split": "dev", "samples": damaged, "differ": "x"}).text
    assert samples({}) is None


# ---- scores and curves


def test_the_table_has_each_number_of_student_and_teacher_with_its_interval(page_of: Callable[..., Page]) -> None:
    page = page_of(None)
    assert page.row("model", "KL from the teacher, dev", "perplexity, dev", "exact match, dev", "MB")
    assert page.row("teacher", "–", "3.2500 3.125 to 3.375", "50.00 % 37.5 to 62.5")
    assert page.row("student", "0.2500 0.125 to 0.375", "3.5000 3.375 to 3.625", "37.50 % 25.0 to 50.0")
    assert "nats a token" in page.text
    assert "KL from the teacher 0.2500 on dev (50 rows)." in page.text
    assert "exact match 37.50 % on dev; the teacher's 50.00 %" in page.text


def test_of_a_metric_of_which_less_is_better_no_share_is_kept(page_of: Callable[..., Page]) -> None:
    page = page_of(None, metrics={**METRICS, "metric": "perplexity"})
    assert "Perplexity 3.5000 on dev (50 rows), its teacher's 3.2500: lower is better." in page.text
    assert "keeps" not in page.text
    assert page.row("model")[1] == "perplexity, dev"


def test_nothing_is_advised_that_a_language_model_has_not(page_of: Callable[..., Page], write_run: Write) -> None:
    assert "contrastill export" not in page_of(None).text
    folder = write_run(record=RUN, metrics=METRICS)
    assert [step.command for step in next_steps(read_run(folder))] == [f"contrastill bench --run {folder}"]
    tuned = {**RUN, "command": "finetune", "settings": {"data": "my sums", "out": "x"}}
    steps = next_steps(read_run(write_run("tuned", record=tuned, metrics=ALONE)))
    assert len(steps) == 2
    assert "--method gkd" in steps[0].command
    assert "'my sums'" in steps[0].command


def test_shares_are_drawn_as_shares_and_not_as_terms(page_of: Callable[..., Page], write_run: Write) -> None:
    folder = write_run(record=RUN, metrics=METRICS, log=LOG)
    assert terms(read_run(folder)) == ["soft"]
    page = page_of(None)
    assert "accepted ends at 0.85" in page.text
    assert "Share of the tokens that the student wrote and the teacher let stand" in page.text
    assert "Dotted" not in page.text


# ---- two runs


def scored(seed: int, drift: float) -> AnswerScores:
    random = np.random.default_rng(seed)
    tokens = random.integers(1, 9, 50)
    nats = tokens * random.uniform(1, 2, 50)
    right, overlap = random.uniform(0, 1, 50) < 0.5 + drift, random.uniform(0, 1 - drift, 50)
    own = np.stack([nats * (2 + drift), tokens + random.integers(0, 3, 50)], 1)
    return AnswerScores(tokens, nats * (1 + drift), tokens * (0.25 + drift), right, overlap, own)


def rows_of(found: AnswerScores, metric: str) -> dict[str, Any]:
    return by_row(metric, [[str(n)] for n in range(50)], None, found.by_row(metric), None)


@pytest.mark.parametrize("metric", ["kl", "perplexity", "exact_match", "rouge_l", "own_nats"])
def test_the_difference_of_two_runs_is_that_of_their_scores(metric: str) -> None:
    first, second = scored(0, 0.25), scored(0, 0.0)

    def answers(found: AnswerScores) -> Answers:
        return Answers(metric, "same", 50, None, found.by_row(metric))

    made = difference(answers(first), answers(second))
    assert made is not None
    assert made[0] == pytest.approx(first.metrics[metric] - second.metrics[metric], abs=1e-9)
    assert made[1] < made[0] < made[2] or metric == "kl"  # of rows that all differ by the same


@pytest.mark.parametrize(("drift", "verdict"), [(-0.125, "lower, better"), (0.125, "higher, worse")])
def test_two_runs_are_compared_and_lower_is_better(
    drift: float, verdict: str, write_run: Write, tmp_path: Path
) -> None:
    folders = [
        write_run(
            name,
            record={**RUN, "teacher_fingerprint": "same"},
            metrics=METRICS,
            log=LOG,
            evidence=kept(50, by_row={"dev": rows_of(scored(0, drift), "kl")}),
        )
        for name, drift in (("first", 0.0), ("second", drift))
    ]
    page = Page(compare(folders, tmp_path / "page.html"))
    row = page.row("second", f"{'−' if drift < 0 else ''}{'+' if drift > 0 else ''}0.1250")
    assert row[-1] == verdict
    assert page.row("model", "KL from the teacher, dev", "perplexity, dev", "exact match, dev")
    assert "first ends at 0.85; second ends at 0.85" in page.text


def test_runs_by_several_metrics_stand_in_one_table(write_run: Write, tmp_path: Path) -> None:
    distilled = write_run("distilled", record=RUN, metrics=METRICS, log=LOG)
    tuned = write_run("tuned", record={**RUN, "command": "finetune"}, metrics=ALONE, log=LOG)
    page = Page(compare([distilled, tuned], tmp_path / "page.html"))
    assert page.row("student", "0.2500 0.125 to 0.375", "3.5000 3.375 to 3.625")
    assert page.row("model", "–", "3.5000 3.375 to 3.625", "37.50 % 25.0 to 50.0")
