"""Records of traffic reports: their offsets, splitting and combining; MobIE's files read; the scores by hand."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastill.errors import UserError
from contrastill.studies.traffic_chain import command, extracted
from contrastill.studies.traffic_corpus import read_documents, slimmed
from contrastill.studies.traffic_events import events_of, records_of_tweets
from contrastill.studies.traffic_german import sentences, type_of
from contrastill.studies.traffic_scores import compared, scored

DEMO = Path(__file__).parents[2] / "demo" / "traffic"
TAGS = {"r": "location-route", "s": "location-street", "p": "location-stop", "l": "location", "c": "location-city"}
TAGS |= {"T": "trigger", "C": "event-cause", "d": "date", "t": "time", "n": "duration", "k": "distance"}


def tagged(marked: str) -> tuple[str, list[dict[str, Any]]]:
    """`{T:Stau} auf der {s:A8}` as text and spans."""
    text, spans = "", []
    for piece in re.split(r"(\{\w:[^}]*\})", marked):
        if piece.startswith("{"):
            label, words = TAGS[piece[1]], piece[3:-1]
            spans.append({"start": len(text), "end": len(text) + len(words), "label": label, "score": 0.9})
            text += words
        else:
            text += piece
    return text, spans


def records(marked: str) -> list[dict[str, Any]]:
    text, spans = tagged(marked)
    found = events_of(text, spans)
    assert found == events_of(text, spans[::-1])  # of any order, and always the same
    for one in found:
        assert text[one["start"] : one["end"]] == one["text"]
        assert all(text[part["start"] : part["end"]] == part["text"] for part in one["parts"])
    assert json.loads(json.dumps(found)) == found
    return found


def test_a_closure_with_stretch_direction_cause_and_end() -> None:
    (one,) = records(
        "Die {s:A5} Richtung {c:Basel} ist zwischen {l:Bruchsal} und {l:Karlsruhe-Nord} wegen {C:Bauarbeiten} bis "
        "{t:5 Uhr} {T:gesperrt}."
    )
    assert one["type"] == "Obstruction"
    assert one["trigger"] == "gesperrt"
    assert one["confidence"] == 0.9
    known = {"road": ["A5"], "from": ["Bruchsal"], "to": ["Karlsruhe-Nord"], "direction": ["Basel"]}
    assert one["place"] == {**known, "stops": [], "city": []}
    assert (one["cause"], one["time"]) == (["Bauarbeiten"], {"start": [], "end": ["5 Uhr"]})


def test_a_report_of_several_events_is_split() -> None:
    delay, cancelled, jam = records(
        "{r:S1} bis zu {n:20 Minuten} {T:Verspätung}. {r:S2} {T:fällt} zwischen {p:Ahdorf} - {p:Behausen} {T:aus}. "
        "{s:A8} bei {l:Cestadt} {k:4 km} {T:Stau}."
    )
    assert (delay["type"], delay["place"]["road"], delay["delay"]) == ("Delay", ["S1"], ["20 Minuten"])
    assert (cancelled["type"], cancelled["trigger"]) == ("CanceledRoute", "fällt … aus")
    assert [cancelled["place"][name] for name in ("road", "from", "to")] == [["S2"], ["Ahdorf"], ["Behausen"]]
    assert (jam["type"], jam["place"]["from"], jam["length"]) == ("TrafficJam", ["Cestadt"], ["4 km"])


def test_clauses_of_a_sentence_keep_their_own_lines() -> None:
    one, other = records("{r:S1} mit {n:5 Min} {T:Verspätung}, {r:S2} und {r:S3} werden {T:umgeleitet}")
    assert (one["place"]["road"], other["place"]["road"]) == (["S1"], ["S2", "S3"])
    assert (one["delay"], other["delay"]) == (["5 Min"], [])
    one, other = records("{T:Verspätung} auf {r:S1} und {r:S2}, {r:S3} wird {T:umgeleitet}")
    assert (one["place"]["road"], other["place"]["road"]) == (["S1", "S2"], ["S3"])


def test_a_line_named_first_is_shared_and_a_reason_named_last() -> None:
    found = records("{r:#S7}: Zug steht. Es kommt zu {T:Verspätungen} und {T:Ausfällen}. Grund: {C:Sturm}")
    assert [one["type"] for one in found] == ["Delay", "CanceledRoute"]
    assert all(one["place"]["road"] == ["#S7"] and one["cause"] == ["Sturm"] for one in found)


def test_another_way_is_no_place_of_the_event() -> None:
    (one,) = records("{T:Stau} auf der {s:A1}. Nutzen Sie die {s:A45}.")
    assert one["place"]["road"] == ["A1"]
    (one,) = records("Die {s:B3} ist {T:gesperrt}, Umleitung führt über die {s:B6}")
    assert one["place"]["road"] == ["B3"]


@pytest.mark.parametrize(
    "marked",
    [
        "",
        "   ",
        "Alles läuft.",
        "Die {s:A5} ist frei.",
        "{T:Verspätungen} überall",  # no place
        "{s:A5} {T:Blitzer}",  # no word that is known
        "{r:S1}: {C:Signalstörung} in {p:Ahdorf} behoben",
        "{r:S1} fährt ohne {T:Einschränkungen}",
    ],
)
def test_no_event(marked: str) -> None:
    assert records(marked) == []


def test_an_accident_that_is_tagged_as_a_cause() -> None:
    (one,) = records("{C:Unfall} auf der {s:A44} bei {l:Unna}")
    assert one["type"] == "Accident"
    (one,) = records("Nach einem {C:Unfall} ist die {s:A44} {T:gesperrt}")
    assert (one["type"], one["cause"]) == ("Obstruction", ["Unfall"])


@pytest.mark.parametrize("odd", ["👩🏽‍🚒🚨 ", "é à̂ ", "אבג דה ", "\u202bمرحبا\u202c ", "𝔘𝔫𝔣 ", "\t\u00a0"])
def test_offsets_are_characters_of_the_text(odd: str) -> None:
    (one,) = records(f"{odd}{{T:Stau}} auf der {{s:A8}} {odd}bei {{l:Ulm{odd.strip()}}} {odd}")
    assert one["place"]["road"] == ["A8"]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([{"start": 0, "end": 5, "label": "trigger"}], "within the text's 4 characters"),
        ([{"start": -1, "end": 2, "label": "trigger"}], "within"),
        ([{"start": 2, "end": 2, "label": "trigger"}], "within"),
        ([{"start": 0, "end": 3, "label": "trigger"}, {"start": 2, "end": 4, "label": "date"}], "do not overlap"),
        ([{"start": 0, "end": 2}], "start, end and label"),
        ([{"start": 0.0, "end": 2, "label": "trigger"}], "start, end and label"),
        (["trigger"], "start, end and label"),
    ],
)
def test_spans_that_cannot_be(spans: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        events_of("Stau", spans)
    with pytest.raises(UserError, match=message):
        records_of_tweets("Stau", "incident", spans)


def test_sentences_end_where_they_do() -> None:
    text = "Ab ca. 5 Uhr. Am 3. Mai zw. Ost und West. #S1 fährt\n- S2 nicht! Ende"
    found = [text[start:end].strip() for start, end in sentences(text, [])]
    assert found == ["Ab ca. 5 Uhr.", "Am 3. Mai zw. Ost und West.", "#S1 fährt", "- S2 nicht!", "Ende"]
    assert sentences("Dr. Au. Bf", [(0, 10)]) == [(0, 10)]
    assert sentences("", []) == []


def test_types() -> None:
    said = {"#Stau": "TrafficJam", "SEV": "RailReplacementService", "kein Halt": "CanceledStop", "Fest": None}
    said |= {"Vollsperrung": "Obstruction", "Verkehrsunfall": "Accident", "fährt nicht": "CanceledRoute"}
    assert {words: type_of(words) for words in said} == said


def test_tweets() -> None:
    text = " Crash on Main St near Midtown "
    spans = [{"start": 10, "end": 17, "label": "ROAD"}, {"start": 23, "end": 30, "label": "AREA", "score": 0.5}]
    (one,) = records_of_tweets(text, "incident", spans)
    assert one["type"] == "incident"
    assert one["place"]["road"] == ["Main St"]
    assert one["place"]["city"] == ["Midtown"]
    assert text[one["start"] : one["end"]] == one["text"] == text.strip()
    assert one["confidence"] == 0.5
    (stau,) = events_of(
        "Stau A8", [{"start": 0, "end": 4, "label": "trigger"}, {"start": 5, "end": 7, "label": "location"}]
    )
    assert set(one) == set(stau)
    assert set(one["place"]) == set(stau["place"])
    assert records_of_tweets(text, "Other", spans) == records_of_tweets("", "incident", []) == []


# ---- the corpus


def raw(text: str, mentions: list[tuple[int, int, str]], **more: Any) -> dict[str, Any]:
    known = [{"span": {"start": a, "end": b, "attributes": None}, "type": name} for a, b, name in mentions]
    return {"id": "1", "text": text, "conceptMentions": known, "relationMentions": None, **more}


def test_offsets_of_java_become_those_of_python(tmp_path: Path) -> None:
    one = raw("🚨 Stau A8", [(3, 7, "trigger"), (8, 10, "location-street"), (8, 9, "number")])
    args = [
        {"role": role, "conceptMention": one["conceptMentions"][n]} for n, role in enumerate(("trigger", "location"))
    ]
    one["relationMentions"] = [{"name": "TrafficJam", "args": args, "provenance": [{"annotator": "snorkel"}]}]
    for name, document in (("a.jsonl", one), ("b.jsonl", slimmed(one))):
        (tmp_path / name).write_text(json.dumps(document) + "\n\n")
        (read,) = read_documents(tmp_path / name)
        assert [read["text"][s["start"] : s["end"]] for s in read["spans"]] == ["Stau", "A8"]
        event = {"type": "TrafficJam", "triggers": [(2, 6)], "arguments": [("location", 7, 9)], "by": "snorkel"}
        assert read["events"] == [event]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, data in (("a.jsonl", b"{}\n"), ("b.jsonl", b"[1]"), ("c.jsonl.gz", b"no"), ("d.jsonl", b"\xff")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="expected"):
            read_documents(tmp_path / name)
    (tmp_path / "e.jsonl").write_text(json.dumps(raw("Stau", [(0, 9, "trigger")])))
    with pytest.raises(UserError, match="line 1"):
        read_documents(tmp_path / "e.jsonl")
    with pytest.raises(UserError, match="no"):
        read_documents(tmp_path / "none.jsonl")


def test_the_demo_files_hold_the_corpus() -> None:
    dev = read_documents(DEMO / "dev.jsonl.gz")
    assert len(dev) == 494
    assert sum(len(one["events"]) for one in dev) == 228
    assert not any(one["text"][s["start"]].isspace() for one in dev for s in one["spans"])  # shifted ones would be
    for name, documents in (("train", 2115), ("dev", 494), ("test", 623)):
        assert gzip.decompress((DEMO / "tags" / f"{name}.conll2003.gz").read_bytes()).count(b"-DOCSTART-") == documents


# ---- scores


def event(type: str, trigger: tuple[int, int], *arguments: tuple[str, int, int]) -> dict[str, Any]:
    return {"type": type, "triggers": [trigger], "arguments": list(arguments)}


GOLD = [
    [event("Delay", (0, 4), ("location", 5, 7)), event("Delay", (0, 4), ("location", 8, 10))],
    [],
    [event("A", (3, 6))],
]
MADE = [[event("Delay", (0, 4), ("location", 5, 7), ("cause", 20, 22))], [event("A", (1, 2))], [event("A", (5, 9))]]


def test_scores_by_hand() -> None:
    found = scored(MADE, GOLD)
    keys = ("right", "predicted", "gold", "precision", "recall", "f1")
    assert [found["event"]["all"][key] for key in keys] == [
        1,
        3,
        2,
        0.3333,
        0.5,
        0.4,
    ]  # two lines, one trigger: one event
    assert [found["event_overlap"]["A"][key] for key in keys] == [1, 2, 1, 0.5, 1.0, 0.6667]
    assert [found["argument"]["Delay"][key] for key in keys] == [1, 2, 2, 0.5, 0.5, 0.5]
    low, high = found["event"]["all"]["interval"]
    assert low <= 0.4 <= high
    assert found == scored(MADE, GOLD)
    assert scored(GOLD, GOLD)["event"]["all"]["interval"] == [1.0, 1.0]
    assert scored([[]], [[]])["event"]["all"]["precision"] is None


def test_an_overlapping_span_meets_one_gold_span_only() -> None:
    gold = [[event("A", (0, 1), ("location", 0, 10))]]
    made = [[event("A", (0, 1), ("location", 0, 4), ("location", 5, 9))]]
    one = scored(made, gold)["argument_overlap"]["all"]
    assert (one["right"], one["predicted"], one["gold"]) == (1, 2, 1)
    assert scored(made, gold)["argument"]["all"]["right"] == 0


def test_the_paired_interval_is_that_of_a_slow_twin() -> None:
    found = compared(MADE, GOLD, GOLD, samples=200, seed=3)["event"]
    weights = np.random.default_rng(3).multinomial(3, [1 / 3] * 3, size=200)
    counts = {"a": [(1, 1, 1), (0, 1, 0), (0, 1, 1)], "b": [(1, 1, 1), (0, 0, 0), (1, 1, 1)]}

    def f1(chain: str, times: Any) -> float:
        good, asked, known = (sum(t * c[n] for t, c in zip(times, counts[chain], strict=True)) for n in range(3))
        return 2 * good / (asked + known) if asked + known else 1.0

    drawn = [f1("b", times) - f1("a", times) for times in weights]
    assert found["difference"] == 0.6
    assert found["interval"] == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=1e-4)
    assert compared(MADE, MADE, GOLD)["event"] == {"difference": 0.0, "interval": [0.0, 0.0]}


# ---- the command


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    text, spans = tagged("{T:Stau} auf der {s:A8}")
    one = raw(text, [(s["start"], s["end"], s["label"]) for s in spans])
    args = [
        {"role": role, "conceptMention": one["conceptMentions"][n]} for n, role in enumerate(("trigger", "location"))
    ]
    one["relationMentions"] = [{"name": "TrafficJam", "args": args, "provenance": None}]
    (tmp_path / "corpus" / "dev.jsonl.gz").write_bytes(gzip.compress(json.dumps(one).encode()))
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "1", "text": text, "spans": spans}) + "\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": text, "spans": spans[:1]}) + "\n")
    return tmp_path


def test_the_command_writes_records_scores_and_a_page(corpus: Path) -> None:
    where = ["--corpus", str(corpus / "corpus"), "--split", "dev", "--out", str(corpus / "out")]
    assert command([*where, "--spans", "gold"])["all"]["chain"]["scores"]["event"]["all"]["f1"] == 1.0
    found = command([*where, "--spans", str(corpus / "a.jsonl"), "--spans-b", str(corpus / "b.jsonl")])
    assert found["all"]["b_minus_a"]["event"]["difference"] == -1.0
    assert json.loads((corpus / "out" / "scores.json").read_text())["command"].endswith("b.jsonl")
    (line,) = (corpus / "out" / "records.jsonl").read_text().splitlines()
    assert json.loads(line)["records"][0]["place"]["road"] == ["A8"]
    page = (corpus / "out" / "result.md").read_text()
    assert "Second minus first" in page
    assert "Stau auf der A8" in page


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "expected text and spans"),
        ('{"text": "anders", "spans": []}', "tag the texts of"),
        ("", "expected a line for each"),
    ],
)
def test_spans_of_another_corpus(corpus: Path, line: str, message: str) -> None:
    (corpus / "c.jsonl").write_text(line + "\n")
    where = ["--corpus", str(corpus / "corpus"), "--out", str(corpus / "out"), "--spans"]
    with pytest.raises(UserError, match=message):
        command([*where, str(corpus / "c.jsonl")])
    with pytest.raises(UserError, match="no such file"):
        command([*where, str(corpus / "none.jsonl")])
    assert not (corpus / "out").exists()


def test_a_tagger_is_a_function_of_texts() -> None:
    documents = read_documents(DEMO / "dev.jsonl.gz")[:40]
    tag = {one["text"]: one["spans"] for one in documents}
    made = extracted(documents, [tag[one["text"]] for one in documents])
    assert made == [events_of(one["text"], one["spans"]) for one in documents]


def test_no_model_is_loaded() -> None:
    asked = "import sys, contrastill.studies.traffic_events, contrastill.studies.traffic_chain as _; "
    asked += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
