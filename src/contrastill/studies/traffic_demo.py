"""The third demo: traffic reports become events, by a tagger and by its distilled student.

    make demo-traffic
    (python -m contrastill.studies.traffic_demo --data demo/traffic --out demo/runs/traffic)

A teacher learns MobIE's tags (routes, streets, stops, triggers, causes, times) from multilingual-e5-small (12 x 384), a
student learns from it by LRC-BERT, and is exported in int8. Each tags the reports of the test split; `traffic_events`
splits and combines the tagged parts into one record an event, which are scored against the corpus' own annotations.
"""

import argparse
import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from contrastill.errors import counted
from contrastill.results import write_text
from contrastill.studies import demo
from contrastill.studies.demo import console, step
from contrastill.studies.run import markdown_table
from contrastill.studies.small_e5 import multilingual_e5
from contrastill.studies.traffic_chain import answers, extracted, shown_reports, tags
from contrastill.studies.traffic_corpus import read_documents
from contrastill.studies.traffic_scores import compared, scored

STUDENT, METHOD = "4L-312", "lrc_bert"
EPOCHS = {"teacher": 4.0, "student": 6.0}
HEAD = ("chain", "tags: F1", "interval", "events: F1", "interval", "arguments: F1", "interval", *demo.SPEED)
TEACHER, SMALL = "teacher", "student"


def run(
    data: Path,
    out: Path,
    *,
    model: str | None = None,
    student: str = STUDENT,
    method: str = METHOD,
    epochs: float | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    seconds: float = 2.0,
    **settings: Any,
) -> dict[str, Any]:
    """Makes teacher, student and traffic.{json,md} below `out`; returns what traffic.json holds.

    model: the encoder that the teacher starts from. epochs: of both, in place of their own. limit: of training texts.
    settings: others, of both trainings.
    """
    from contrastill.exporting.source import exportable
    from contrastill.machine import describe_machine
    from contrastill.training import distill, finetune

    began = time.perf_counter()
    documents = read_documents(data / "test.jsonl.gz")
    base = model or multilingual_e5(out / "multilingual-e5-small")
    shared = {"cache": str(out / "cache"), "limit": limit, **settings}
    step("a teacher of MobIE's tags")
    asked: dict[str, Any] = {"model": base, "data": str(data / "tags"), "out": str(out / "teacher"), "limit": limit}
    asked |= settings
    taught, _ = demo.trained(finetune, asked | {"epochs": epochs or EPOCHS["teacher"]}, overwrite)
    step(f"its student, {student} by {method}")
    asked = {"teacher": str(out / "teacher"), "student": student, "method": method, "vocabulary": "texts", **shared}
    asked |= {"epochs": epochs or EPOCHS["student"], "out": str(out / "student")}
    learnt, resumed = demo.trained(distill, asked, overwrite)
    step("exporting the student in int8")
    bundles = demo.exported(learnt.folder)
    step(f"{len(documents):,} reports, by each chain")
    sources = {TEACHER: taught.folder, SMALL: learnt.folder}
    models = {name: exportable(str(source), attention="sdpa") for name, source in sources.items()}
    texts, truth = [one["text"] for one in documents], [one["events"] for one in documents]
    records = {n: extracted(documents, tags(model)(texts)) for n, model in {**models, **bundles}.items()}
    chains = {name: answers(each) for name, each in records.items()}
    speeds = timed(models, bundles, texts, seconds)
    sizes = {
        name: {key: known[key] for key in ("parameters", "size_mb")}
        for name, known in ((TEACHER, taught.metrics["model"]), (SMALL, learnt.metrics["student"]))
    }
    sizes |= {n: {"parameters": sizes[SMALL]["parameters"], "size_mb": demo.graph_mb(b)} for n, b in bundles.items()}
    scores = {TEACHER: taught.metrics["model"]["test"], SMALL: learnt.metrics["student"]["test"]}
    scores |= {name: bundle.metadata["test"] for name, bundle in bundles.items()}
    rows = [
        {
            "of": name,
            "tags": {"f1": scores[name]["metrics"]["f1"], "interval": scores[name]["interval"]},
            **{of: scored(chain, truth)[of]["all"] for of in ("event", "argument")},
            **sizes[name],
            **speeds[name],
        }
        for name, chain in chains.items()
    ]
    summary = {
        "wall_s": round(time.perf_counter() - began, 1),
        "resumed": resumed,
        "machine": describe_machine(),
        "model": model or "multilingual-e5-small",
        "student": student,
        "method": method,
        "epochs": {name: epochs or value for name, value in EPOCHS.items()},
        "limit": limit,
        "documents": len(documents),
        "metric": "F1, test split; 95 % bootstrap intervals over texts (tags), reports (events, arguments); one seed",
        "rows": rows,
        "student_minus_teacher": compared(chains[TEACHER], chains[SMALL], truth),
        "gates": {name: bundle.metadata["gate"] for name, bundle in bundles.items()},
    }
    page = markdown(summary) + "\n".join(shown_reports(documents, records[next(iter(bundles))]))
    demo.leave(out, "traffic", summary, page + "\n")
    write_text(out / "records.jsonl", lines(documents, records))
    return summary


def timed(models: dict[str, Any], bundles: dict[str, Any], texts: Sequence[str], seconds: float) -> dict[str, Any]:
    """The speed of each, on its own tokens of the same reports: one by one, and in batches of 32."""
    some = list(texts)[:: math.ceil(len(texts) / 256)]
    cpu = torch.device("cpu")
    calls: dict[str, Any] = {}
    for name, source in models.items():
        calls[name] = demo.Timed(lambda inputs, source=source: source.module(**inputs), cpu)  # type: ignore[misc]
    ours = models[SMALL]  # its tokens are those of the bundles; the teacher's have other numbers, and the same lengths
    singles = [ours.encode([text]) for text in some]
    batches = [ours.encode(some[n : n + 32]) for n in range(0, len(some), 32)]
    return demo.speeds_of(calls, bundles, singles, batches, seconds)


def lines(documents: Sequence[dict[str, Any]], records: dict[str, list[Any]]) -> str:
    rows = (
        {"id": one["id"], "text": one["text"], **{name: each[n] for name, each in records.items()}}
        for n, one in enumerate(documents)
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def cells(row: dict[str, Any], teacher: dict[str, Any]) -> list[str]:
    found = [row["of"]]
    for of in ("tags", "event", "argument"):
        low, high = row[of]["interval"]
        found += [f"{100 * row[of]['f1']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"]
    return found + demo.speed_cells(row, teacher)


def markdown(summary: dict[str, Any]) -> str:
    first = summary["rows"][0]
    apart = summary["student_minus_teacher"]
    said = "; ".join(
        f"{of}s {100 * apart[of]['difference']:+.1f} ({100 * apart[of]['interval'][0]:+.1f} to "
        f"{100 * apart[of]['interval'][1]:+.1f})"
        for of in ("event", "argument")
    )
    return "\n".join(
        [
            "# Traffic events by a tagger and its student",
            "",
            f"MobIE, {summary['documents']:,} test reports. {summary['metric']}.",
            "",
            *markdown_table(HEAD, (cells(row, first) for row in summary["rows"])),
            "",
            f"Student less teacher, points of F1, paired over the reports: {said}.",
            "",
            f"Teacher of {summary['model']}, student {summary['student']} by `{summary['method']}` with the vocabulary "
            f"of its training texts; {summary['wall_s'] / 60:.1f} minutes on {summary['machine']['cpu']}, "
            f"{counted(first['threads'], 'thread')}. Teacher and student run in PyTorch float32.",
            "",
            "",
        ]
    )


def show(summary: dict[str, Any]) -> None:
    rows = (cells(row, summary["rows"][0]) for row in summary["rows"])
    console.print(demo.screen_table("traffic events, test", HEAD, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("demo/traffic"), help="folder of tags/ and test.jsonl.gz")
    parser.add_argument("--model", help="Hub name or folder of an encoder that knows German [multilingual-e5-small]")
    parser.add_argument("--student", default=STUDENT, help="shape: 4L-312, 3L …")
    parser.add_argument("--method", default=METHOD)
    parser.add_argument("--epochs", type=float, help="passes over the texts, of teacher and student [4 and 6]")
    parser.add_argument("--limit", type=int, help="at most so many training texts: a trial")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each model is timed, in both ways")
    parser.add_argument("--out", type=Path, help="folder of the runs [demo/runs/traffic; of a trial, …/traffic-N]")
    parser.add_argument("--overwrite", action="store_true", help="make both anew although --out has them")
    args = vars(parser.parse_args())
    limit = args["limit"]
    args["out"] = args["out"] or Path("demo/runs") / ("traffic" if limit is None else f"traffic-{limit}")
    demo.finish(run, show, stopped="stopped; the same command continues from the saved steps", **args)
    shutil.rmtree(args["out"] / "cache", ignore_errors=True)
    print(f"the student's page, to be opened in a browser: {args['out'] / 'student' / 'report.html'}")
    print(f"written: {args['out'] / 'traffic.md'}, traffic.json and records.jsonl")


if __name__ == "__main__":
    main()
