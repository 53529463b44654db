"""MobIE's documents: text, tagged spans and events, with offsets of Python's strings."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from contrastill.errors import UserError, quoted

__all__ = ["Document", "read_documents", "slimmed"]

Document = dict[str, Any]
"""id, text, spans (start, end, label), events (type, triggers and arguments as spans, by)."""


def read_documents(file: str | Path) -> list[Document]:
    """The documents of a jsonl file of MobIE, as published or as in demo/traffic, gzipped or not.

    The corpus counts UTF-16 units, as Java does: after an emoji its offsets are one too high for Python. They are
    translated, so text[start:end] is the span.

    Raises:
        UserError: no such file, or a line that is no document.
    """
    path = Path(file).expanduser()
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = data.decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a jsonl file of MobIE, got {error}; see demo/traffic/README.md") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_document(json.loads(line)))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise UserError(
                    f"{path}, line {number}: expected a document with text, conceptMentions and relationMentions, got "
                    f"{quoted(line)} ({type(error).__name__}: {error}); see demo/traffic/README.md"
                ) from None
    return found


def _document(raw: Mapping[str, Any]) -> Document:
    text = raw["text"]
    places = [n for n, char in enumerate(text) for _ in range(2 if ord(char) > 0xFFFF else 1)] + [len(text)]

    def span(mention: Mapping[str, Any]) -> dict[str, Any]:
        start, end = places[mention["span"]["start"]], places[mention["span"]["end"]]
        return {"start": start, "end": end, "label": mention["type"]}

    events = []
    for relation in raw.get("relationMentions") or []:
        args = [(arg["role"], span(arg["conceptMention"])) for arg in relation.get("args") or []]
        by = [one.get("annotator") for one in relation.get("provenance") or [] if one]
        events.append(
            {
                "type": relation["name"],
                "triggers": [(part["start"], part["end"]) for role, part in args if role == "trigger"],
                "arguments": [(role, part["start"], part["end"]) for role, part in args if role != "trigger"],
                "by": "snorkel" if "snorkel" in by else "manual",
            }
        )
    spans = {(s["start"], s["end"]): s for s in map(span, raw.get("conceptMentions") or []) if s["start"] < s["end"]}
    return {"id": str(raw["id"]), "text": text, "spans": _outermost(spans.values()), "events": events}


def _outermost(spans: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of the text, without those that reach into one before them; of two that start alike, the longer."""
    kept: list[dict[str, Any]] = []
    for span in sorted(spans, key=lambda span: (span["start"], -span["end"])):
        if not kept or span["start"] >= kept[-1]["end"]:
            kept.append(span)
    return kept


def slimmed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A published document with what `read_documents` reads, and nothing else; offsets as published."""

    def mention(one: Mapping[str, Any]) -> dict[str, Any]:
        return {"span": {name: one["span"][name] for name in ("start", "end")}, "type": one["type"]}

    return {
        "id": raw["id"],
        "text": raw["text"],
        "conceptMentions": [mention(one) for one in raw.get("conceptMentions") or []],
        "relationMentions": [
            {
                "name": one["name"],
                "args": [
                    {"role": arg["role"], "conceptMention": mention(arg["conceptMention"])}
                    for arg in one.get("args") or []
                ],
                "provenance": [{"annotator": by.get("annotator")} for by in one.get("provenance") or [] if by],
            }
            for one in raw.get("relationMentions") or []
        ],
    }
