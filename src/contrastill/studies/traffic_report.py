"""A tagged traffic report: its sentences, the role of each part, its triggers, and what belongs to each of them."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from contrastill.studies import traffic_german as german

__all__ = ["WHERE", "How", "Report", "Span", "Trigger"]

Span = dict[str, Any]
"""start, end (exclusive, of Python's str), label; score, where a tagger gave it."""

How = Literal[
    "labels, whole report", "labels, own sentence", "words, own sentence", "clauses, own sentence", "combined"
]
"""Roles by label alone, or by the words before a part; parts from where; `clauses` cuts sentences of several lines, and
names each once; `combined` also takes what a sentence lacks from the rest of the report."""

ROADS = {"location-route", "location-street"}
PLACES = {"location", "location-city", "location-stop", *ROADS}
TIMES = {"date", "time"}
CAUSES = {"event-cause", "disaster-type"}
BY_LABEL = {
    **{**dict.fromkeys(PLACES, "start_loc"), **dict.fromkeys(ROADS, "location"), **dict.fromkeys(TIMES, "start_date")},
    **{**dict.fromkeys(CAUSES, "cause"), "duration": "delay", "distance": "jam_length"},
}


CUT = ("clauses, own sentence", "combined")
WHERE = {"location", "start_loc", "end_loc", "direction", "route", "at"}
"""An event without any of these is left out: nobody can act on it, and MobIE has none."""


SURE = ("trigger", *sorted(WHERE))
STRETCH = ("start_loc", "end_loc", "direction")


class Trigger:
    """type; parts: its spans, `fällt` and `aus`; sentence: its number; clause: the stretch of text that is its own."""

    def __init__(self, type: str, parts: list[Span], sentence: int, clause: tuple[int, int]) -> None:
        self.type, self.parts, self.sentence, self.clause = type, parts, sentence, clause


class Report:
    """A text with its spans, cut into sentences, the role of each span read from the words before it."""

    def __init__(self, text: str, spans: list[Span], how: How) -> None:
        self.text, self.spans, self.how = text, spans, how
        self.sentences = german.sentences(text, [(span["start"], span["end"]) for span in spans])
        self.within = [next(n for n, (_, end) in enumerate(self.sentences) if s["start"] < end) for s in spans]
        self.roles = [""] * len(spans)
        if how.startswith("labels"):
            self.roles = [BY_LABEL.get(span["label"], "") for span in spans]
        else:
            for number in range(len(self.sentences)):
                self.read(number)

    # ---- triggers

    def triggers(self) -> list[Trigger]:
        """The events' triggers: what is tagged so; an accident that is tagged as a cause, but not said to be one; and,
        where a report has neither, any cause (works, a fault)."""
        causes = self.of_labels(CAUSES)
        free = [one for one in causes if not german.causal(self.before(one.parts[0], one.sentence))]
        found = [*self.of_labels({"trigger"}), *(one for one in free if one.type == "Accident")] or causes
        found.sort(key=lambda one: one.parts[0]["start"])
        if self.how in CUT:
            self.cut(found)
        return found

    def of_labels(self, labels: set[str]) -> list[Trigger]:
        groups: list[tuple[int, list[Span]]] = []
        for span, number in zip(self.spans, self.within, strict=True):
            words = self.words(span)
            if span["label"] not in labels:
                continue
            if groups and groups[-1][0] == number and german.PARTICLE.fullmatch(words):
                groups[-1][1].append(span)
            else:
                groups.append((number, [span]))
        found = []
        for number, parts in groups:
            first, last = self.sentences[number]
            type = german.type_of(" ".join(map(self.words, parts)))
            before, after = self.text[first : parts[0]["start"]], self.text[parts[-1]["end"] : last]
            if type is not None and not german.over(before, after):
                found.append(Trigger(type, parts, number, (first, last)))
        return found

    def taken(self, given: Sequence[Mapping[str, Any]]) -> list[Trigger]:
        """Triggers of events that are known."""
        found = []
        for event in given:
            parts = [{"start": start, "end": end, "label": "trigger"} for start, end in sorted(event["triggers"])]
            number = next(n for n, (_, end) in enumerate(self.sentences) if parts[0]["start"] < end)
            found.append(Trigger(event["type"], parts, number, self.sentences[number]))
        if self.how in CUT:
            self.cut(found)
        return found

    def cut(self, triggers: list[Trigger]) -> None:
        """Gives each trigger of a sentence its clause, where each side of a cut has a road and a trigger of its own."""
        for one, other in itertools.pairwise(triggers):
            if one.sentence != other.sentence:
                continue
            cuts = german.clause_cuts(self.text, one.parts[-1]["end"], other.parts[0]["start"])
            if not self.roads(one.clause[0], one.parts[0]["start"]):
                cuts.reverse()  # its roads stand after the trigger
            for at in cuts:
                if self.roads(one.clause[0], at) and self.roads(at, other.clause[1]):
                    one.clause, other.clause = (one.clause[0], at), (at, other.clause[1])
                    break

    # ---- parts

    def parts(self, trigger: Trigger, triggers: list[Trigger]) -> list[tuple[str, Span]]:
        """(role, span) of all that belongs to an event, in the order of the text."""
        taken = {(span["start"], span["end"]) for one in triggers for span in one.parts}
        pairs = [
            (role, span, number)
            for role, span, number in zip(self.roles, self.spans, self.within, strict=True)
            if role and (span["start"], span["end"]) not in taken
        ]
        own = [(role, span) for role, span, number in pairs if number == trigger.sentence]
        if self.how == "labels, whole report":
            own = [(role, span) for role, span, _ in pairs]
        elif self.how in CUT:
            own = self.combined(trigger, triggers, pairs)
        own = [(role, span) for role, span in own if role not in ("via", "") and fits(role, trigger.type)]
        if not self.how.startswith("labels"):
            own = [(as_stop(role, span, trigger.type, own), span) for role, span in own]
        own = [*(("trigger", span) for span in trigger.parts), *own]
        return sorted(own, key=lambda part: part[1]["start"])

    def combined(
        self, trigger: Trigger, triggers: list[Trigger], pairs: list[tuple[str, Span, int]]
    ) -> list[tuple[str, Span]]:
        """The parts of the trigger's clause; what it lacks, from its sentence and from the rest of the report."""
        first, last = trigger.clause
        own = [(role, span) for role, span, _ in pairs if first <= span["start"] < last]
        busy = {one.sentence for one in triggers} - {trigger.sentence}
        if not self.named(own):
            own += [(r, s) for r, s, n in pairs if n == trigger.sentence and r == "location" and (r, s) not in own]
        order = sorted(range(len(self.sentences)), key=lambda n: (n > trigger.sentence, abs(n - trigger.sentence)))
        for number in (n for n in order if n != trigger.sentence and self.how == "combined"):
            there = [(role, span) for role, span, n in pairs if n == number]
            if not self.named(own) and self.named(there):
                roles = {"location"} if number in busy else {"location", *STRETCH, "start_date", "end_date"}
                roles -= {role for role, _ in own if role != "location"}
                own += [part for part in there if part[0] in roles]
            if number > trigger.sentence and not has(own, "cause"):
                own += [part for part in there if part[0] == "cause" and german.reason(self.before(part[1], number))]
        if trigger.type == "Delay":
            own = [(r, s) for r, s in own if r != "delay" or nearest(s, trigger, triggers)]
        return once(self, own, trigger)

    def named(self, parts: list[tuple[str, Span]]) -> bool:
        """Whether a road or line is among the parts, and not `die Züge` alone."""
        return any(role == "location" and not german.empty(self.words(span)) for role, span in parts)

    def before(self, span: Span, number: int) -> str:
        return german.lead(self.text, span["start"], self.sentences[number][0])

    def roads(self, start: int, end: int) -> list[Span]:
        pairs = zip(self.roles, self.spans, strict=True)
        return [span for role, span in pairs if role == "location" and start <= span["start"] < end]

    def words(self, span: Mapping[str, Any]) -> str:
        return self.text[span["start"] : span["end"]]

    # ---- roles

    def read(self, number: int) -> None:
        """Sets the roles of a sentence's spans."""
        place: int | None = None  # the last place, and the last time
        time: int | None = None
        for n in (n for n, there in enumerate(self.within) if there == number):
            span, label = self.spans[n], self.spans[n]["label"]
            before = self.before(span, number)
            if label in PLACES:
                self.place(n, place, before)
                place = n
            elif label in TIMES and not german.empty(self.words(span)):
                gap = "" if time is None else self.text[self.spans[time]["end"] : span["start"]]
                follows = time is not None and german.follows(gap) and self.roles[time] == "end_date"
                ends = german.until(before) or follows or (time is not None and german.spans_time(gap))
                self.roles[n] = "end_date" if ends else "start_date"
                time = n
            elif label in CAUSES:
                self.roles[n] = "cause" if german.causal(before) else ""
            elif label == "duration" and german.is_delay(self.words(span), self.text[span["end"] :]):
                self.roles[n] = "delay"
            elif label == "distance":
                self.roles[n] = "jam_length"

    def place(self, n: int, last: int | None, before: str) -> None:
        span, role = self.spans[n], german.place_role(self.words(self.spans[n]), before)
        road = span["label"] in ROADS
        gap = "" if last is None else self.text[self.spans[last]["end"] : span["start"]]
        if last is not None and self.roles[last] == "start_loc" and german.joins(gap) and self.paired(last):
            self.roles[n] = "end_loc"
        elif last is not None and not road and self.roles[last] in ("start_loc", "at") and german.ends_range(gap):
            self.roles[last], self.roles[n] = "start_loc", "end_loc"
        elif road and (role == "via" or german.detour(self.text[self.sentences[self.within[n]][0] : span["start"]])):
            self.roles[n] = "via"
        elif road and (role not in ("between", "direction") or (role == "direction" and last is None)):
            self.roles[n] = "location"
        elif role in ("near", "from") and n and self.spans[n - 1]["label"] in CAUSES:
            self.roles[n] = "at"  # where the cause is
        else:
            roles = {"between": "start_loc", "near": "start_loc", "from": "start_loc", "until": "end_loc"}
            self.roles[n] = roles.get(role, role)

    def paired(self, n: int) -> bool:
        """Whether `zwischen` stands before a place."""
        before = self.before(self.spans[n], self.within[n])
        return german.place_role(self.words(self.spans[n]), before) == "between"

    # ---- records

    def record(self, trigger: Trigger, parts: list[tuple[str, Span]]) -> dict[str, Any]:
        first, last = start, end = self.sentences[trigger.sentence]
        said = self.text[start:end]
        start, end = start + len(said) - len(said.lstrip()), end - (len(said) - len(said.rstrip()))

        def of(*roles: str, labels: set[str] | None = None) -> list[str]:
            return [self.words(s) for role, s in parts if role in roles and (labels is None or s["label"] in labels)]

        here = ("location", "at")
        return {
            "type": trigger.type,
            "place": {
                "road": [name for name in of("location", "route", labels=ROADS) if not german.empty(name)],
                "from": of("start_loc"),
                "to": of("end_loc"),
                "direction": of("direction"),
                "stops": of(*here, labels={"location-stop"}),
                "city": of(*here, labels={"location-city", "location"}),
            },
            "cause": of("cause"),
            "time": {"start": of("start_date"), "end": of("end_date")},
            "delay": of("delay"),
            "length": of("jam_length"),
            "trigger": " … ".join(of("trigger")),
            "text": self.text[start:end],
            "start": start,
            "end": end,
            "confidence": min((float(s.get("score", 1.0)) for role, s in parts if role in SURE), default=1.0),
            "parts": [
                {
                    **{"role": role, "start": span["start"], "end": span["end"], "label": span["label"]},
                    **{"text": self.words(span), "inherited": not first <= span["start"] < last},
                }
                for role, span in parts
            ],
        }


def has(parts: list[tuple[str, Span]], *roles: str) -> bool:
    return any(role in roles for role, _ in parts)


def fits(role: str, type: str) -> bool:
    """Whether an event of this type has such a part."""
    return {"delay": type == "Delay", "jam_length": type == "TrafficJam"}.get(role, True)


def as_stop(role: str, span: Span, type: str, own: list[tuple[str, Span]]) -> str:
    """The role of a place where there is no road, and at a stop that is cancelled."""
    if type == "CanceledStop":
        if role == "location":
            return "route"
        if span["label"] == "location-stop" and role in ("at", "start_loc", "end_loc"):
            return "location"
    return "location" if role == "at" and not has(own, "location", "start_loc") else role


def nearest(span: Span, trigger: Trigger, triggers: list[Trigger]) -> bool:
    """Whether no other trigger of a delay is nearer."""

    def away(one: Trigger) -> int:
        return min(abs(part["start"] - span["start"]) for part in one.parts)

    return away(trigger) <= min(away(one) for one in triggers if one.type == "Delay")


def once(report: Report, parts: list[tuple[str, Span]], trigger: Trigger) -> list[tuple[str, Span]]:
    """Each road, and each stretch from one place to another, once: the one next to the trigger."""
    ordered = sorted(parts, key=lambda part: part[1]["start"])
    seen: dict[tuple[str, ...], list[tuple[str, Span]]] = {}
    at = 0
    while at < len(ordered):
        pair = [role for role, _ in ordered[at : at + 2]] == ["start_loc", "end_loc"]
        group = ordered[at : at + 1 + pair]
        at += len(group)
        names = (re.sub(r"[#\s]", "", report.words(span)).casefold() for _, span in group)
        key = (group[0][0], *names)

        def away(some: list[tuple[str, Span]]) -> tuple[bool, int]:
            start = some[0][1]["start"]
            first, last = report.sentences[trigger.sentence]
            return not first <= start < last, abs(start - trigger.parts[0]["start"])

        if key not in seen or away(group) < away(seen[key]):
            seen[key] = group
    return [part for group in seen.values() for part in group]
