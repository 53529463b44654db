"""The chain from a tagger's spans to scored events: `python -m contrastill.studies.traffic_events`."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from contrastill.errors import UserError, quoted
from contrastill.results import write_text
from contrastill.studies.run import markdown_table
from contrastill.studies.traffic_corpus import Document, read_documents
from contrastill.studies.traffic_events import events_of, records_of_tweets
from contrastill.studies.traffic_report import How, Span
from contrastill.studies.traffic_scores import compared, scored

__all__ = [
    "Tag",
    "answers",
    "command",
    "extracted",
    "opened",
    "posts",
    "run",
    "shown_reports",
    "spans_of",
    "tagger",
    "tags",
]

Tag = Callable[[list[str]], list[list[Span]]]
"""A tagger: the spans of each text. `extracted(documents, tag(texts))` is its chain."""

SHOWN = 10


def command(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m contrastill.studies.traffic_events", description=__doc__)
    parser.add_argument(
        "--corpus", type=Path, default=Path("demo/traffic"), help="folder of dev.jsonl.gz, test.jsonl.gz"
    )
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument(
        "--spans", default="gold", help="gold, a jsonl file of text and spans a line, or the folder of a tagger"
    )
    parser.add_argument("--spans-b", help="of a second chain, compared with the first on the same documents")
    parser.add_argument("--posts", type=Path, help="English posts, a line each: records of these, in place of a split")
    parser.add_argument("--classifier", help="with --posts: folder of a classifier with a class 'other'")
    parser.add_argument("--tagger", help="with --posts: folder of a tagger of HarveyNER's labels")
    parser.add_argument("--how", choices=get_args(How), default="combined", help="of records.jsonl and the first table")
    parser.add_argument("--out", type=Path, required=True, help="folder for records.jsonl, scores.json and result.md")
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = parser.parse_args(given)
    if args.posts is not None or args.classifier or args.tagger:
        if not (args.posts and args.classifier and args.tagger):
            raise UserError("--posts: expected --posts, --classifier and --tagger together")
        return of_posts(args.posts, args.classifier, args.tagger, args.out)
    said = "python -m contrastill.studies.traffic_events " + shlex.join(given)
    found = run(args.corpus, args.split, args.spans, args.spans_b, args.out, said, args.how)
    print(
        "\n".join(table(found["all"]["chain"]["scores"])),
        f"\nwritten: {args.out / 'result.md'}, records.jsonl, scores.json",
    )
    return found


def of_posts(file: Path, classifier: str, tagger_folder: str, out: Path) -> dict[str, Any]:
    """Writes records.jsonl of English posts below `out`; returns how many there are."""
    from contrastill.data.read import read_lines

    texts, blank = read_lines(file, "utf-8")
    records = posts(texts, opened(classifier), tagger(tagger_folder))
    out.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({"text": t, "records": r}, ensure_ascii=False) for t, r in zip(texts, records, strict=True))
    write_text(out / "records.jsonl", "".join(f"{row}\n" for row in rows))
    found = {"posts": len(texts), "blank lines left out": blank, "with an event": sum(map(bool, records))}
    print(f"{found['with an event']:,} of {len(texts):,} posts have an event; written: {out / 'records.jsonl'}")
    return found


def run(
    corpus: Path,
    split: str,
    spans: str | Path,
    spans_b: str | Path | None,
    out: Path,
    command: str = "",
    how: How = "combined",
) -> dict[str, Any]:
    """Writes records.jsonl, scores.json and result.md below `out`; returns what scores.json holds.

    Raises:
        UserError: files that are not there, or spans of other texts.
    """
    documents = read_documents(corpus / f"{split}.jsonl.gz")
    if not documents:
        raise UserError(
            f"{corpus / f'{split}.jsonl.gz'}: expected documents, got an empty file; see demo/traffic/README.md"
        )
    tagged = spans_of(spans, documents)
    records = extracted(documents, tagged, how)
    second = None if spans_b is None else spans_of(spans_b, documents)
    by_hand = [n for n, one in enumerate(documents) if all(e["by"] == "manual" for e in one["events"])]
    parts = {"all": list(range(len(documents))), "by hand": by_hand}
    found: dict[str, Any] = {
        "command": command,
        "split": split,
        "how": how,
        "spans": str(spans),
        "spans_b": None if spans_b is None else str(spans_b),
        "metric": "F1 of distinct events and arguments, all documents together; 95 % bootstrap interval over documents",
        "parts": "all: every document; by hand: without the documents that hold an event labelled by Snorkel",
    }
    for name, numbers in parts.items():
        mine, spans_of_a, spans_of_b = (some(each, numbers) for each in (documents, tagged, second or []))
        found[name] = part(how, mine, spans_of_a, spans_of_b if second is not None else None)
    out.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"id": d["id"], "records": r}, ensure_ascii=False) for d, r in zip(documents, records, strict=True)
    )
    write_text(out / "records.jsonl", "".join(f"{line}\n" for line in lines))
    write_text(out / "scores.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "result.md", markdown(found, documents, records))
    return found


def some(rows: Sequence[Any], numbers: Sequence[int]) -> list[Any]:
    return [rows[n] for n in numbers] if rows else []


def part(
    how: How, documents: list[Document], tagged: list[list[Span]], second: list[list[Span]] | None = None
) -> dict[str, Any]:
    """The scores of some of the documents, and what each step adds."""
    truth = [one["events"] for one in documents]
    made = {step: answers(extracted(documents, tagged, step)) for step in get_args(How)}
    found: dict[str, Any] = {
        "documents": len(documents),
        "with_events": sum(map(bool, truth)),
        "gold_events": sum(map(len, truth)),
        "chain": {"scores": scored(made[how], truth)},
    }
    if second is not None:
        other = answers(extracted(documents, second, how))
        found |= {"chain_b": {"scores": scored(other, truth)}, "b_minus_a": compared(made[how], other, truth)}
    found["steps"] = {step: {"scores": whole(scored(chain, truth))} for step, chain in made.items()}
    rows = zip(documents, tagged, strict=True)
    known = [events_of(one["text"], spans, "combined", one["events"]) for one, spans in rows]
    found["steps"]["combined, gold triggers and types"] = {"scores": whole(scored(answers(known), truth))}
    return found


def whole(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores of all types together."""
    return {of: {"all": each["all"]} for of, each in scores.items()}


def extracted(
    documents: Sequence[Document], tagged: Sequence[Sequence[Span]], how: How = "combined"
) -> list[list[dict[str, Any]]]:
    """The records of each document."""
    return [events_of(one["text"], spans, how) for one, spans in zip(documents, tagged, strict=True)]


def answers(records: Sequence[Sequence[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Records as they are scored: `at`, a place without a role of MobIE's, is no argument."""
    return [
        [
            {
                "type": one["type"],
                "triggers": [(p["start"], p["end"]) for p in one["parts"] if p["role"] == "trigger"],
                "arguments": [
                    (p["role"], p["start"], p["end"]) for p in one["parts"] if p["role"] not in ("trigger", "at")
                ],
            }
            for one in rows
        ]
        for rows in records
    ]


def spans_of(source: str | Path, documents: Sequence[Document]) -> list[list[Span]]:
    """The spans of each document: `gold`, a tagger's (folder of a run, a model or a bundle), or those of a jsonl file
    of a line each, by `id` or in order.

    Raises:
        UserError: a broken line, a document without one, or one of another text.
    """
    if str(source) == "gold":
        return [one["spans"] for one in documents]
    path, rows = Path(source).expanduser(), []
    if path.is_dir():
        return tagger(path)([one["text"] for one in documents])
    try:
        lines = path.read_text("utf-8").splitlines() if path.is_file() else None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected a jsonl file in UTF-8, got {error}; write it with contrastill predict"
        ) from None
    if lines is None:
        raise UserError(f"{path}: expected a jsonl file of spans, got no such file; write it with contrastill predict")
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        try:
            row = json.loads(line)
            rows.append((row.get("id"), row["text"], list(row["spans"])))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path}, line {number}: expected text and spans, got {quoted(line)}; see docs/traffic-events.md"
            ) from None
    known = {str(row[0]): row for row in rows if row[0] is not None}
    ordered = [known.get(one["id"]) for one in documents] if len(known) == len(rows) else [*rows]
    if len(ordered) != len(documents) or None in ordered:
        raise UserError(
            f"{path}: expected a line for each of {len(documents):,} documents, got {len(rows):,}; tag all of the split"
        )
    found = []
    for one, row in zip(documents, ordered, strict=True):
        if row is None or row[1] != one["text"]:
            raise UserError(
                f"{path}: expected the text of document {one['id']}, got {quoted(row and row[1])}; tag the texts "
                "of this split"
            )
        found.append(row[2])
    return found


def tagger(model: str | Path) -> Tag:
    """The tagger in the folder of a run, a model or a bundle.

    Raises:
        UserError: no such model, or one of another task.
    """
    return tags(opened(model))


def opened(model: str | Path) -> Any:
    """The `Bundle`, or the `Exportable`, in the folder of a run, a model or a bundle. Raises as they do."""
    from contrastill.bundle import is_bundle, open_bundle
    from contrastill.exporting.source import exportable

    return open_bundle(model) if is_bundle(model) else exportable(str(model), attention="sdpa")


def posts(texts: Sequence[str], classifier: Any, tag: Tag) -> list[list[dict[str, Any]]]:
    """The records of English posts: the class of a classifier, with the places of a tagger; `records_of_tweets`.

    classifier: a `Bundle`, or an `Exportable`, of classes of which one is "other".

    Raises:
        UserError: a model of another task, or without that class.
    """
    if classifier.answer.labels is None or classifier.answer.per_word or classifier.answer.several:
        raise UserError(f"{classifier.name}: expected a classifier, got a model that answers {classifier.answer.words}")
    if "other" not in {name.casefold() for name in classifier.answer.labels}:
        raise UserError(
            f"{classifier.name}: expected a class 'other' for posts without an event, got "
            f"{', '.join(classifier.answer.labels)[:200]}; name it so (--labels of finetune)"
        )
    named = classifier.answer.named(classifier.run(list(texts)))
    rows = zip(texts, named, tag(list(texts)), strict=True)
    return [records_of_tweets(text, name, spans) for text, name, spans in rows]


def tags(model: Any) -> Tag:
    """model: a `Bundle`, or an `Exportable`.

    Raises:
        UserError: of another task.
    """
    if not model.answer.per_word:
        raise UserError(f"{model.name}: expected a tagger, got a model that answers {model.answer.words}")

    def tag(texts: list[str]) -> list[list[Span]]:
        return [model.answer.record(row)["spans"] for row in model.run(texts)]

    return tag


# ---- showing it

HEAD = ("", "event F1", "interval", "precision", "recall", "argument F1", "interval", "precision", "recall")


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def cells(name: str, scores: dict[str, Any], of: str) -> list[str]:
    row = [name]
    for score in ("event", "argument"):
        one = scores[score].get(of)
        shown = ["–"] * 4
        if one is not None:
            low, high = one["interval"]
            shown = [share(one["f1"]), f"{share(low)} to {share(high)}", share(one["precision"]), share(one["recall"])]
        row += shown
    return row


def table(scores: dict[str, Any]) -> list[str]:
    return markdown_table(HEAD, (cells(name, scores, name) for name in scores["event"]))


def markdown(found: dict[str, Any], documents: list[Document], records: list[list[dict[str, Any]]]) -> str:
    lines = [f"# Traffic events, MobIE {found['split']}", "", f"`{found['command']}`", "", f"{found['metric']}.", ""]
    for name in ("all", "by hand"):
        of = found[name]
        lines += [f"## {name}: {of['documents']:,} documents, {of['gold_events']:,} gold events", ""]
        lines += [*table(of["chain"]["scores"]), ""]
        if "b_minus_a" in of:
            lines += ["Second chain:", "", *table(of["chain_b"]["scores"]), "", "Second minus first, paired:", ""]
            compared_rows = (
                [score, share(one["difference"]), " to ".join(map(share, one["interval"]))]
                for score, one in of["b_minus_a"].items()
            )
            lines += [*markdown_table(("", "difference", "interval"), compared_rows), ""]
        if "steps" in of:
            lines += [
                *markdown_table(HEAD, (cells(step, one["scores"], "all") for step, one in of["steps"].items())),
                "",
            ]
    return "\n".join([*lines, *shown_reports(documents, records)])


def shown_reports(documents: Sequence[Document], records: Sequence[list[dict[str, Any]]]) -> list[str]:
    """Lines of markdown: the first reports that have records."""
    lines = [f"## The first {SHOWN} reports with records", ""]
    shown = [(one, rows) for one, rows in zip(documents, records, strict=True) if rows][:SHOWN]
    for one, rows in shown:
        lines += ["```text", one["text"].strip().replace("```", "'''"), "```", "", "```json"]
        lines += [
            json.dumps({k: v for k, v in row.items() if k not in ("parts", "text")}, ensure_ascii=False) for row in rows
        ]
        lines += ["```", ""]
    return lines
