"""Neighbours and ranks of pairs: as slower computations give them, and as a page shows them."""

import json
from typing import Any

import numpy as np
import pytest
from run_folders import RECORD, Page

from contrastill.report import write_report
from contrastill.report.evidence import of_pairs, of_vectors
from contrastill.report.neighbours import nearest, of_neighbours, of_ranks, ranked, ranks_of, shared
from contrastill.report.paired import by_row

RANDOM = np.random.default_rng(1)
TEACHER, OTHER = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in RANDOM.normal(size=(2, 30, 8)))
STUDENT = (TEACHER + 0.5 * OTHER) / np.linalg.norm(TEACHER + 0.5 * OTHER, axis=1, keepdims=True)


def texts(rows: Any) -> list[list[str]]:
    return [[f"<i>text {row}</i>"] for row in rows]


def pairs(rows: Any) -> list[list[str]]:
    return [[f"first {row}", f"<i>second {row}</i>"] for row in rows]


def embedding(evidence: dict[str, Any]) -> dict[str, Any]:
    metrics = {"task": "sentence embeddings", "metric": "agreement", "steps": 40, "teacher": {}}
    metrics |= {"student": {"agreement": 0.5, "cosine": 0.8}, "yardsticks": {"untrained": 0.31, "chance": 0.02}}
    log = [{"eval_agreement": 0.4, "step": 10}, {"eval_agreement": 0.5, "step": 20}]
    return {"metrics": metrics, "evidence": evidence, "log": log}


def test_neighbours_are_those_of_greatest_cosine() -> None:
    found = nearest(TEACHER, 5)
    for row, near in enumerate(found):
        others = [n for n in range(30) if n != row]
        assert near.tolist() == sorted(others, key=lambda n: -TEACHER[row] @ TEACHER[n])[:5]
    ours = nearest(STUDENT, 5)
    expected = [len(set(a) & set(b)) / 5 for a, b in zip(ours.tolist(), found.tolist(), strict=True)]
    assert shared(ours, found) == pytest.approx(expected)


def test_a_page_shows_texts_with_their_neighbours_beside_its_yardsticks(write_run) -> None:
    ours, theirs = nearest(STUDENT, 5), nearest(TEACHER, 5)
    evidence = of_vectors((STUDENT * TEACHER).sum(1), texts, "texts held out")
    evidence["neighbours"] = of_neighbours(ours, theirs, texts)
    page = Page(write_report(write_run(**embedding(json.loads(json.dumps(evidence))))))
    for one in evidence["neighbours"]["examples"]:
        assert one["text"] in page.text
        both = [(text, also) for side in ("theirs", "ours") for text, also in one[side]]
        assert len(both) == 6
        assert all((f"{text} ✓" in page.text) or not also for text, also in both)
        row = int(one["text"].split()[1].removesuffix("</i>"))
        assert one["shared"] == len(set(ours[row]) & set(theirs[row]))
    assert "<i>" not in page.source
    assert ">before training</text>" in page.source
    assert ">random neighbours</text>" in page.source


def test_a_partner_s_rank_counts_other_texts_that_are_nearer() -> None:
    seconds = [f"second {n % 25}" for n in range(30)]  # five texts stand twice
    vectors = STUDENT[np.arange(30) % 25]
    ranks, first = ranks_of(TEACHER, vectors, ([f"first {n}" for n in range(30)], seconds))
    for row in range(30):
        nearer = {seconds[n] for n in range(30) if TEACHER[row] @ vectors[n] > TEACHER[row] @ vectors[row]}
        assert ranks[row] == 1 + len(nearer - {seconds[row]})
        assert seconds[first[row]] == seconds[int((vectors @ TEACHER[row]).argmax())]


def test_a_page_of_pairs_shows_their_ranks_and_what_is_found_first(write_run) -> None:
    sides = [f"first {n}" for n in range(30)], [f"second {n}" for n in range(30)]
    before, after = (ranks_of(TEACHER, side, sides) for side in (OTHER, STUDENT))
    evidence = of_ranks(after, before, pairs, "training pairs")
    metrics = {"base": "m", "steps": 4, "train_rows": 30, "retrieval": {"before": 3.0, "after": 90.0}}
    record = {**RECORD, "command": "contrast"}
    page = Page(
        write_report(write_run(record=record, metrics=metrics, evidence=json.loads(json.dumps(evidence)), log=[]))
    )
    shares = [f"{100 * (ranks <= 3).mean():.1f} %" for ranks, _ in (before, after)]
    assert page.row("3") == ["3", *shares, "10.0 %"]  # of 30 second texts
    worst = evidence["examples"][0]
    assert worst["ours"] == after[0].max()
    assert f"rank {worst['theirs']} before · {worst['ours']} after" in page.text
    assert all(one["first"] is None for one in evidence["examples"] if one["ours"] == 1)
    assert "<i>" not in page.source


def test_scored_pairs_stand_in_the_model_s_order(write_run) -> None:
    cosines, scores = (TEACHER * STUDENT).sum(1), RANDOM.uniform(0, 5, 30)
    found = ranked(cosines, scores, pairs)
    assert [one["cosine"] for one in found] == sorted((one["cosine"] for one in found), reverse=True)
    assert (found[0]["place"], found[-1]["place"], len(found)) == (1, 30, 10)
    assert found[0]["texts"] == pairs([cosines.argmax()])[0]
    evidence = {**of_pairs(scores, cosines, None, pairs), "ranked": found}
    metrics = {"base": "m", "steps": 4, "dev": {"before": 80.0, "after": 81.0}}
    page = Page(
        write_report(write_run(record={**RECORD, "command": "contrast"}, metrics=metrics, evidence=evidence, log=[]))
    )
    assert page.row("30")[2:] == [f"{found[-1]['cosine']:.3f}", str(found[-1]["label"])]


@pytest.mark.parametrize("key", ["neighbours", "ranked", "within"])
@pytest.mark.parametrize("value", [None, 3, [3], {"a": 1}, [{"a": 1}], {"examples": [{"ours": 5}, 7]}])
def test_damaged_neighbours_leave_a_page(key: str, value: Any, write_run) -> None:
    evidence = of_vectors((STUDENT * TEACHER).sum(1), texts, "texts held out")
    folder = write_run(**(embedding({**evidence, key: value}) | {"log": []}), record=RECORD)
    assert "Texts whose vectors are least similar" in Page(write_report(folder)).text


def test_a_text_and_its_other_partners_do_not_stand_before_its_own() -> None:
    firsts, seconds = ["a", "a", "b", "c"], ["b", "d", "a", "e"]  # b is a's, and a is b's
    vectors = {name: TEACHER[n] for n, name in enumerate("abcde")}
    sides = [np.stack([vectors[name] for name in side]) for side in (firsts, seconds)]
    others = [{"e"}, {"e"}, {"d", "e"}, {"b", "d", "a"}]
    ranks, _ = ranks_of(*sides, (firsts, seconds))
    for row, own in enumerate(seconds):
        first = vectors[firsts[row]]
        assert ranks[row] == 1 + sum(first @ vectors[other] > first @ vectors[own] for other in others[row])


def test_a_page_of_held_out_pairs_has_their_score_in_its_headline(write_run) -> None:
    sides = [f"first {n}" for n in range(30)], [f"second {n}" for n in range(30)]
    before, after = (ranks_of(TEACHER, side, sides) for side in (OTHER, STUDENT))
    evidence = of_ranks(after, before, pairs, "held-out pairs")
    found = [(ranks == 1) for ranks, _ in (before, after)]
    shares = dict(zip(("before", "after"), (100 * float(one.mean()) for one in found), strict=True))
    evidence["by_row"] = {"held-out pairs": by_row("retrieval", zip(*sides, strict=True), None, *reversed(found))}
    metrics = {"base": "m", "steps": 4, "train_rows": 90, "held_out": 30, "retrieval": shares}
    record = {**RECORD, "command": "contrast"}
    page = Page(
        write_report(write_run(record=record, metrics=metrics, evidence=json.loads(json.dumps(evidence)), log=[]))
    )
    both = f"{shares['before']:.2f} % before, {shares['after']:.2f} % after"
    said = f"held-out pairs (30 rows), higher after training: {both}"
    assert said in page.text.replace("\u00a0", " ")
    assert "After minus before, partners found first on 30 rows of held-out pairs" in page.text
    assert "The model has not learnt from these pairs" in page.text
