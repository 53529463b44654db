"""The second demo: a sentence-embedding model distilled without a label, and a search with it beside its teacher.

    make demo-embeddings
    (python -m contrastill.recipes.search --data demo/banking77 --sentences demo/sentences/sentences.txt.xz
     --out demo/runs/search)

The student learns all-MiniLM-L6-v2's (6 x 384) vectors of Wikipedia sentences and of the texts that will be searched:
what a user has too. Then each finds, for every test query of BANKING77, the nearest of the training texts. Labels score
what is found; nothing learns from them, nor from a query. Hardware: 2 CPU cores; time and score: see demo/search.md.

The student, 3/192/12/768, is half as deep and half as wide: an eighth of the teacher's multiplications, where `3L` has
half of them; and its vectors, so the index, are half as large.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from contrastill.bundle import Bundle
from contrastill.errors import UserError
from contrastill.recipes.banking77 import base_model, console, quiet, step
from contrastill.recipes.deployed import Served, exported, graph_mb, leave_figures
from contrastill.screen import Screen

STUDENT = "3/192/12/768"
SETTINGS: dict[str, Any] = {
    "method": "disco",
    "set": {"temperature": 0.37},  # found more of the teacher's nearest, among texts that were not asked for, than 0.05
    "epochs": 3.0,
    "checks": 3,
    "max_length": 64,
}
TOP, SHOWN, EXAMPLES = 10, 3, 3

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts and the class of each: what is searched, or what is asked."""

    texts: list[str]
    labels: Array


def run(
    data: Path,
    sentences: Path,
    out: Path,
    *,
    teacher: str | None = None,
    student: str = STUDENT,
    width: int = 64,
    limit: int | None = None,
    overwrite: bool = False,
    seconds: float = 2.0,
    **settings: Any,
) -> dict[str, Any]:
    """Makes the student and search.{json,md} below `out`; returns what search.json holds.

    width: the first so many numbers of each vector are scored too. limit: of sentences, index and queries, at most so
    many. seconds: how long each model is timed, one by one and in batches. Other settings are the distillation's.
    """
    from contrastill.evaluation import size
    from contrastill.loading import load_embedder
    from contrastill.machine import describe_machine

    for name, value in (("limit", limit), ("width", width)):
        if value is not None and value < 1:
            raise UserError(f"expected a {name} of at least 1, got {value}")
    began = time.perf_counter()
    index, queries = read_texts(data, limit)
    source = teacher or str(base_model())
    step("distilling the student, on texts without labels")
    corpus = write_corpus(out, sentences, index, queries, limit)
    made, resumed = distilled(source, student, corpus, out, overwrite, settings)
    step("exporting the student in int8")
    bundles = exported(made.folder, console)
    models = {"teacher": load_embedder(source), "student": load_embedder(str(made.model))}
    step(f"{len(queries.texts):,} queries among {len(index.texts):,} texts, with each")
    vectors = {name: (encode(model, index.texts), encode(model, queries.texts)) for name, model in models.items()}
    both = dict(vectors)
    for name, bundle in bundles.items():
        there, asked = (nn.functional.normalize(torch.from_numpy(bundle.run(t.texts))) for t in (index, queries))
        vectors[name] = there, asked
    step("timing both, turn by turn")
    speeds = timed(models, bundles, queries.texts[:: math.ceil(len(queries.texts) / 256)], seconds)
    rows, found = score_all(vectors, index, queries, width)
    sizes = {name: size(model) for name, model in models.items()}
    sizes |= {b: {"parameters": sizes["student"]["parameters"], "size_mb": graph_mb(bundles[b])} for b in bundles}
    for row in rows:
        row |= sizes[row["of"]] | speeds[row["of"]]
    leave_figures(made.folder, speeds, "student", bundles)
    summary = {
        "wall_s": round(time.perf_counter() - began, 1),
        "resumed": resumed,
        "machine": describe_machine(),
        "limit": limit,
        "teacher": teacher or "all-MiniLM-L6-v2",
        "student": student,
        "settings": {**SETTINGS, **settings},
        "corpus": {key: value for key, value in corpus.items() if key != "path"},
        "training": {key: made.metrics[key] for key in ("steps", "train_rows", "seconds", "student")},
        "index": len(index.texts),
        "queries": len(queries.texts),
        "metric": "nearest neighbours by cosine; 95 % bootstrap intervals over the queries; one seed",
        "difference": difference(found, index, queries),
        "rows": rows,
        "gates": {name: bundle.metadata["gate"] for name, bundle in bundles.items()},
        "examples": examples(both, found, index, queries),
    }
    (out / "search.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "search.md").write_text(markdown(summary), encoding="utf-8")
    return summary


# ---- texts


def read_texts(data: Path, limit: int | None) -> tuple[Texts, Texts]:
    """(what is searched, what is asked): the training and the test texts."""
    from contrastill.data.load import load_task

    def first(split: Any) -> Texts:
        some = split if limit is None else split.shuffle(seed=0).select(range(min(limit, len(split))))
        return Texts(list(some["text"]), np.array(some["label"]))

    splits = load_task(data / "train.csv.gz", test=data / "test.csv.gz", dev_share=0).splits
    return first(splits["train"]), first(splits["test"])


def write_corpus(out: Path, sentences: Path, index: Texts, queries: Texts, limit: int | None) -> dict[str, Any]:
    """What the student learns from, a line each: sentences of no domain, then the texts searched, less the queries."""
    from contrastill.data.corpus import several_texts

    general = [text for chunk in several_texts([str(sentences)], limit=limit) for text in chunk]
    asked = {plain(text).lower() for text in queries.texts}
    own = [text for text in map(plain, index.texts) if text.lower() not in asked]
    written = "".join(f"{text}\n" for text in (*general, *own)).encode()
    path = out / f"texts-{hashlib.sha256(written).hexdigest()[:12]}.txt"  # other texts: another run, not to be taken up
    out.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written)
    left_out = len(index.texts) - len(own)
    console.print(
        f"learning from {len(general):,} sentences of Wikipedia and {len(own):,} of the texts to be searched "
        f"({left_out} that are also queries left out)",
    )
    return {"path": path, "sentences": len(general), "texts": len(own), "left_out": left_out}


def plain(text: str) -> str:
    """On one line."""
    return " ".join(text.split())


# ---- models


def distilled(
    teacher: str, student: str, corpus: dict[str, Any], out: Path, overwrite: bool, settings: dict[str, Any]
) -> tuple[Any, bool]:
    """(the run, whether it was taken up): a student there already, or half made, is, unless `overwrite`."""
    from contrastill.training import distill

    begun = out / "student" / "run.json"
    resume = not overwrite and begun.is_file() and begun.stat().st_size > 0
    asked = {
        "teacher": [teacher],
        "student": student,
        "texts": [str(corpus["path"])],
        "cache": str(out / "cache"),
        "out": str(out / "student"),
        "overwrite": True,
        **SETTINGS,
        **settings,
    }
    try:
        made = distill(resume=resume, **asked)
    except UserError as error:
        raise UserError(f"{error}; --overwrite makes the student anew") if resume else error from None
    spent, held = made.metrics["seconds"], made.metrics["student"]
    agreement = f", agreement {held['agreement']:.3f}" if "agreement" in held else ""
    console.print(
        f"{made.metrics['steps']} steps in {sum(spent.values()):.0f} s, of these {spent['teacher outputs']:.0f} s the "
        f"teacher's{agreement}{' (taken up)' if resume else ''}",
    )
    return made, resume


def encode(model: Any, texts: list[str]) -> Tensor:
    """Unit vectors, (texts, width)."""
    bar = sys.stderr.isatty()
    return model.encode(texts, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=bar).float().cpu()


class Embed(nn.Module):
    """A sentence-embedding model, called as an encoder is: so that it can be timed as one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def device(self) -> torch.device:
        return self.model.device

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.model(inputs)["sentence_embedding"]


def timed(
    models: dict[str, Any], bundles: dict[str, Bundle], texts: Sequence[str], seconds: float
) -> dict[str, dict[str, float]]:
    """Speed of each on the queries as they come: one at a time, and in batches of 32. All read the same tokens."""
    from contrastill.evaluation import measure

    read = models["student"].preprocess
    batches = [read(list(texts[n : n + 32])) for n in range(0, len(texts), 32)]
    embeds: dict[str, Any] = {name: Embed(model) for name, model in models.items()}
    embeds |= {name: Served(bundle) for name, bundle in bundles.items()}
    speeds = measure(embeds, [read([text]) for text in texts], batches, seconds=seconds)
    kept = ("latency_ms_p50", "throughput_per_s", "threads")
    return {name: {key: getattr(speed, key) for key in kept} for name, speed in speeds.items()}


# ---- search and its scores. Q queries, N texts, K hits.


def nearest(queries: Tensor, index: Tensor, k: int) -> Array:
    """(Q, D), (N, D), unit vectors -> the rows (Q, K) of the texts of highest cosine, highest first."""
    hits = [(some @ index.T).topk(min(k, len(index)), dim=1).indices for some in queries.split(1024)]
    return torch.cat(hits).numpy()


def voted(labels: Array) -> Array:
    """The commonest label of each query's hits, (Q, K) -> (Q,); of equally common ones the nearest hit's."""
    votes = (labels[:, :, None] == labels[:, None, :]).sum(2)
    return labels[np.arange(len(labels)), votes.argmax(1)]


def overlap(ours: Array, theirs: Array) -> float:
    """The share of their hits (Q, K) that are also ours, whatever the order."""
    return float((ours[:, :, None] == theirs[:, None, :]).any(1).mean())


def cut(vectors: Tensor, width: int) -> Tensor:
    """The first `width` numbers of each, as SentenceTransformer(truncate_dim=width) gives them."""
    return nn.functional.normalize(vectors[:, :width], dim=-1)


def score_all(
    vectors: dict[str, tuple[Tensor, Tensor]], index: Texts, queries: Texts, width: int
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """A row for each model, whole and cut to `width`; and the hits (Q, K) of each row."""
    from contrastill.evaluation import bootstrap_interval

    rows: list[dict[str, Any]] = []
    found: dict[str, Array] = {}
    for of, (there, asked) in vectors.items():
        full = there.shape[1]
        for wide in (full, width) if width < full and of in ("teacher", "student") else (full,):
            name = of if wide == full else f"{of}, first {wide}"
            hits = found[name] = nearest(cut(asked, wide), cut(there, wide), TOP)
            first = index.labels[hits[:, 0]]
            accuracy = float((first == queries.labels).mean())
            rows.append(
                {
                    "name": name,
                    "of": of,
                    "width": wide,
                    "index_mb": len(there) * wide * 4 / 1e6,
                    "nearest": accuracy,
                    "interval": bootstrap_interval(*as_answers(first, queries), "accuracy"),
                    "kept": accuracy / rows[0]["nearest"] if rows and rows[0]["nearest"] else 1.0,
                    "top10": float((voted(index.labels[hits]) == queries.labels).mean()),
                    "overlap": overlap(hits, found["teacher"]),
                }
            )
    return sorted(rows, key=lambda row: row["name"] not in vectors), found  # the whole ones first


def difference(found: dict[str, Array], index: Texts, queries: Texts) -> list[float]:
    """Student less teacher, with its interval: both on the same resampled queries."""
    from contrastill.evaluation import paired_bootstrap

    ours, theirs = (as_answers(index.labels[found[name][:, 0]], queries)[0] for name in ("student", "teacher"))
    return list(paired_bootstrap(ours, theirs, queries.labels, "accuracy"))


def as_answers(labels: Array, queries: Texts) -> tuple[Array, Array]:
    """Labels (Q,) as the logits (Q, C) of a classifier that is sure of itself; and the right ones."""
    classes = max(int(labels.max()), int(queries.labels.max()), 1) + 1
    return np.eye(classes)[labels], queries.labels


def examples(
    vectors: dict[str, tuple[Tensor, Tensor]], found: dict[str, Array], index: Texts, queries: Texts
) -> list[dict[str, Any]]:
    """Queries from all over the test texts, not chosen by what was found, with the best hits of both."""
    total = len(queries.texts)
    return [
        {
            "query": queries.texts[row],
            "hits": {
                name: [
                    {
                        "text": plain(index.texts[hit]),
                        "cosine": round(float(asked[row] @ there[hit]), 3),
                        "right": bool(index.labels[hit] == queries.labels[row]),
                    }
                    for hit in found[name][row, :SHOWN]
                ]
                for name, (there, asked) in vectors.items()
            },
        }
        for row in sorted({(2 * n + 1) * total // (2 * EXAMPLES) for n in range(EXAMPLES)})
    ]


# ---- showing it

HEAD = (
    "model",
    "width",
    "index MB",
    "nearest",
    "interval",
    "kept",
    "top 10",
    "overlap",
    "parameters",
    "MB",
    "ms (1 text)",
    "texts/s",
    "times faster",
)


def cells(row: dict[str, Any], teacher: dict[str, Any]) -> list[str]:
    low, high = row["interval"]
    return [
        row["name"],
        f"{row['width']}",
        f"{row['index_mb']:.1f}",
        f"{row['nearest']:.2%}",
        f"{low:.1%} to {high:.1%}",
        f"{row['kept']:.1%}",
        f"{row['top10']:.2%}",
        f"{row['overlap']:.1%}",
        f"{row['parameters'] / 1e6:.1f} M",
        f"{row['size_mb']:.0f}",
        f"{row['latency_ms_p50']:.1f}",
        f"{row['throughput_per_s']:,.0f}",
        f"{row['throughput_per_s'] / teacher['throughput_per_s']:.1f}",
    ]


def hit_cell(hit: dict[str, Any]) -> str:
    return f"{'✓' if hit['right'] else '✗'} {hit['text']} ({hit['cosine']:.2f})"


def markdown(summary: dict[str, Any]) -> str:
    rows, machine, corpus = summary["rows"], summary["machine"], summary["corpus"]
    change, low, high = (f"{100 * value:+.2f}" for value in summary["difference"])
    lines = ["| " + " | ".join(cells(row, rows[0])) + " |" for row in rows]
    shown = []
    for one in summary["examples"]:
        shown += ["", f"**{plain(one['query'])}**", "", "| teacher | student |", "|---|---|"]
        for pair in zip(one["hits"]["teacher"], one["hits"]["student"], strict=True):
            shown.append("| " + " | ".join(hit_cell(hit).replace("|", "\\|") for hit in pair) + " |")
    later = " and without what an earlier call had done" if summary["resumed"] else ""
    partly = [f"Of {summary['limit']} texts of each kind only (`--limit`): a trial, no result.", ""]
    return "\n".join(
        [
            f"# Search: {summary['teacher']} to `{summary['student']}`",
            "",
            *(partly if summary["limit"] else []),
            f"`make demo-embeddings`, {summary['wall_s'] / 60:.1f} minutes without the installation{later}, on "
            f"{machine['cpu']}, {rows[0]['threads']} threads; {summary['metric']}. The teacher runs in float32 here.",
            "",
            "| " + " | ".join(HEAD) + " |",
            "|---" * len(HEAD) + "|",
            *lines,
            "",
            f"{summary['queries']:,} queries (BANKING77's test texts) among {summary['index']:,} texts (its training "
            "texts). `nearest`: how",
            "often the nearest text has the query's intent; `top 10`: the commonest intent of the ten nearest;",
            "`overlap`: the share of the teacher's ten nearest that are found. `first N`: the same vectors, cut",
            "(`SentenceTransformer(..., truncate_dim=N)`). Student less teacher, `nearest`: "
            f"{change} points ({low} to {high}).",
            "",
            f"The student learnt, without labels, from {corpus['sentences']:,} sentences of Wikipedia and from "
            f"{corpus['texts']:,} of the texts that",
            f"are searched ({corpus['left_out']} that are also queries left out), in {summary['training']['steps']:,} "
            "steps. `int8`: the student exported. Speed: PyTorch",
            "in float32 or the named runtime, queries as they come, tokenisation not counted; throughput in batches",
            "of 32.",
            "",
            "## Three queries",
            "",
            "From all over the test texts, not chosen by what was found; ✓: has the query's intent.",
            *shown,
            "",
        ]
    )


def show(summary: dict[str, Any]) -> None:
    screen = Screen()
    table = Table(title="BANKING77, searched with its test texts", title_justify="left")
    for name in HEAD:
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in summary["rows"]:
        table.add_row(*cells(row, summary["rows"][0]))
    screen.print(table)
    for one in summary["examples"]:
        hits = Table("teacher", "student", title=f"“{plain(one['query'])}”", title_justify="left")
        for pair in zip(one["hits"]["teacher"], one["hits"]["student"], strict=True):
            hits.add_row(*(hit_cell(hit) for hit in pair))
        screen.print(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("demo/banking77"), help="folder of train.csv.gz, test.csv.gz")
    parser.add_argument(
        "--sentences",
        type=Path,
        default=Path("demo/sentences/sentences.txt.xz"),
        help="file of general texts to learn from, a line each",
    )
    parser.add_argument("--teacher", help="Hub name or folder of a sentence-embedding model [all-MiniLM-L6-v2]")
    parser.add_argument("--student", default=STUDENT, help="shape: 3/192/12/768, 3L, 4L-312 …")
    parser.add_argument("--epochs", type=float, default=SETTINGS["epochs"], help="passes over the texts")
    parser.add_argument("--width", type=int, default=64, help="score the first so many numbers of each vector too")
    parser.add_argument("--limit", type=int, help="at most so many sentences, texts searched and queries: a trial")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each model is timed, in both ways")
    parser.add_argument(
        "--out", type=Path, help="folder for the student and what is found [demo/runs/search; of a trial, …/search-N]"
    )
    parser.add_argument("--overwrite", action="store_true", help="make the student anew although --out holds one")
    args = vars(parser.parse_args())
    trial = args["limit"] is not None
    args["out"] = args["out"] or Path("demo/runs") / (f"search-{args['limit']}" if trial else "search")
    quiet()
    try:
        summary = run(**args)
    except UserError as error:
        console.error("error:", error)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from what is saved")
        sys.exit(130)
    show(summary)
    for folder in (args["out"] / "student" / "checkpoints", args["out"] / "cache"):
        shutil.rmtree(folder, ignore_errors=True)
    print(f"the student's page, to be opened in a browser: {args['out'] / 'student' / 'report.html'}")
    print(f"written: {args['out'] / 'search.md'}, {args['out'] / 'search.json'}; student below {args['out']}")


if __name__ == "__main__":
    main()
