"""Traffic events of tagged reports: a report is split, and the tagged parts are combined into a record per event.

    python -m contrastill.studies.traffic_events --corpus demo/traffic --split dev --spans gold --out runs/traffic

What LRC-BERT was made for: a tagger finds routes, places, triggers, causes and times in official notices and posts (its
labels are those of MobIE), and this step, without a model, makes events of them. `records_of_tweets` does the like for
English posts: the class of a classifier and the places of a tagger. See docs/traffic-events.md.
"""

import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from contrastill.errors import UserError, quoted
from contrastill.studies.traffic_report import WHERE, How, Report, Span, Trigger

__all__ = ["checked", "events_of", "records_of_tweets"]


def checked(text: str, spans: Sequence[Mapping[str, Any]]) -> list[Span]:
    """The spans in the order of the text.

    Raises:
        UserError: a span without start, end and label, outside of the text, empty, or overlapping another.
    """
    found: list[Span] = []
    for span in spans:
        known = isinstance(span, Mapping) and isinstance(span.get("label"), str)
        if not known or not all(type(span.get(name)) is int for name in ("start", "end")):
            raise UserError(
                f"expected spans of start, end and label, got {quoted(span)}; write them as the tagger does"
            )
        if not 0 <= span["start"] < span["end"] <= len(text):
            raise UserError(
                f"expected spans within the text's {len(text):,} characters, got {quoted(dict(span))}; give the text "
                "that was tagged, and offsets in Python's characters"
            )
        found.append(dict(span))
    found.sort(key=lambda span: (span["start"], span["end"]))
    for one, other in itertools.pairwise(found):
        if other["start"] < one["end"]:
            raise UserError(
                f"expected spans that do not overlap, got {quoted(one)} and {quoted(other)}; keep one of them, such as "
                "the one with the higher score"
            )
    return found


def events_of(
    text: str,
    spans: Sequence[Mapping[str, Any]],
    how: How = "combined",
    given: Sequence[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """One record for each event of a report, in the order of their triggers; JSON-ready.

    spans: of a tagger with MobIE's labels. given: events of which type and triggers are known (for upper bounds).

    Raises:
        UserError: spans that are not those of this text (see `checked`).
    """
    report = Report(text, checked(text, spans), how)
    triggers = report.triggers() if given is None else report.taken(given)
    found = [(trigger, report.parts(trigger, triggers)) for trigger in triggers]
    kept = (one for one in found if given is not None or any(role in WHERE for role, _ in one[1]))
    return [report.record(*one) for one in kept]  # without a place nobody can act on it; MobIE has none such


# ---- English posts


def records_of_tweets(text: str, class_name: str, spans: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The record of an English post, none where its class is `other`; of the form of `events_of`.

    class_name: a classifier's (incident, condition or information, other). spans: a tagger's, with HarveyNER's labels
    (POINT, AREA, ROAD, RIVER). A post is short: it is one event, with all its places.

    Raises:
        UserError: spans that are not those of this text (see `checked`).
    """
    found = checked(text, spans)
    if class_name.strip().casefold() == "other":
        return []
    parts = [("location", {**span, "label": span["label"].upper()}) for span in found]
    record = Report(text, [], "combined").record(Trigger(class_name, [], 0, (0, len(text))), parts) if text else {}

    def of(*labels: str) -> list[str]:
        return [text[span["start"] : span["end"]] for _, span in parts if span["label"] in labels]

    place = {"road": of("ROAD"), "stops": of("POINT"), "city": of("AREA", "RIVER")}
    start = len(text) - len(text.lstrip())
    whole = {"text": text.strip(), "start": start, "end": start + len(text.strip())}
    return [{**record, "place": {**record["place"], **place}, **whole}] if text.strip() else []


def main(arguments: Sequence[str] | None = None) -> None:
    from contrastill.studies.traffic_chain import command

    try:
        command(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
