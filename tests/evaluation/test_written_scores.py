"""ROUGE-L, distinct-2 and the scores of written answers, beside plain loops."""

from itertools import product

import numpy as np
import pytest

from contrastill.evaluation.language import AnswerScores
from contrastill.evaluation.written import distinct_2, longest_common, rouge_l, words


def slow_common(a: list[str], b: list[str]) -> int:
    """The table of the textbook."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for n, one in enumerate(a):
        for m, other in enumerate(b):
            table[n + 1][m + 1] = table[n][m] + 1 if one == other else max(table[n][m + 1], table[n + 1][m])
    return table[-1][-1]


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    random = np.random.default_rng(0)
    short = [list(one) for size in range(4) for one in product("ab", repeat=size)]
    long = [[str(n) for n in random.integers(0, 5, size)] for size in random.integers(0, 150, 8)]
    for texts in (short, long):
        for a, b in product(texts, texts):
            assert longest_common(a, b) == slow_common(a, b)


def test_rouge_l_is_the_f_measure_of_rouge_score() -> None:
    # the example in rouge-score's README: precision 0.625, recall 0.5555
    first, second = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."
    found = rouge_l([second, first], [first, second])
    assert found == pytest.approx(2 * 0.625 * (5 / 9) / (0.625 + 5 / 9))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It's 3.5_kg, OK?", ["it", "s", "3", "5", "kg", "ok"]),
        ("Größe  CAFÉ\n", ["größe", "café"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        (" ?! ", []),
    ],
)
def test_words_are_runs_of_letters_marks_and_digits(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("written", "given", "score"),
    [
        ("", "", 1.0),
        ("", "a", 0.0),
        ("a", "", 0.0),
        ("+", "+", 1.0),
        ("+", "-", 0.0),
        ("A!", "a", 1.0),
        ("b a", "a b", 0.5),
        ("a a a", "a", 0.5),
    ],
)
def test_answers_of_no_word_or_one_have_a_score(written: str, given: str, score: float) -> None:
    assert rouge_l([written], [given]).tolist() == [score]
    assert rouge_l([], []).shape == (0,)


def test_distinct_2_is_that_of_a_plain_count() -> None:
    answers = [*np.random.default_rng(0).integers(0, 4, (9, 6)).tolist(), [], [1]]
    seen, count = list[tuple[int, int]](), 0
    for answer in answers:
        for n in range(len(answer) - 1):
            count += 1
            if (answer[n], answer[n + 1]) not in seen:
                seen.append((answer[n], answer[n + 1]))
    assert distinct_2(answers) == len(seen) / count
    assert distinct_2([[1, 1, 1, 1]] * 5) == 1 / 15
    assert distinct_2([[1, 2, 3]]) == 1


@pytest.mark.parametrize("answers", [[], [[]], [[1], [2], []]])
def test_without_two_tokens_there_is_no_distinct_2(answers: list[list[int]]) -> None:
    assert distinct_2(answers) is None
    found = AnswerScores(np.array([1]), np.array([0.5]), distinct_2=distinct_2(answers))
    assert list(found.metrics) == ["perplexity"]


def test_metrics_and_intervals_are_those_of_a_loop_over_rows() -> None:
    random, rows = np.random.default_rng(0), 30
    own = np.stack([random.uniform(0, 9, rows), random.integers(1, 9, rows)], 1)
    found = AnswerScores(np.ones(rows), np.ones(rows), rouge_l=random.uniform(0, 1, rows), own=own, distinct_2=0.25)
    assert found.names == ["perplexity", "rouge_l", "own_nats"]
    assert found.rouge_l is not None
    assert found.metrics["rouge_l"] == pytest.approx(sum(found.rouge_l) / rows)
    assert found.metrics["own_nats"] == pytest.approx(sum(own[:, 0]) / sum(own[:, 1]))
    assert found.metrics["distinct_2"] == 0.25
    for one in np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=50):
        again = np.repeat(own, one, axis=0)
        assert found.of("own_nats", one[None])[0] == pytest.approx(again[:, 0].sum() / again[:, 1].sum())
    for metric in found.names:
        low, high = found.interval(metric)
        assert low <= found.metrics[metric] <= high
        by_row = found.by_row(metric)
        assert by_row.shape == ((rows,) if metric == "rouge_l" else (rows, 2))


def test_no_written_token_is_no_nan() -> None:
    found = AnswerScores(np.array([0]), np.array([0.0]), own=np.zeros((1, 2)))
    assert found.metrics == {"perplexity": 1.0, "own_nats": 0.0}
    assert found.interval("own_nats") == (0.0, 0.0)
