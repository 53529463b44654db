"""The second demo: a sentence-embedding model distilled without a label, and a search with it beside its teacher.

    make demo-embeddings
    (python -m contrastill.studies.search --data demo/banking77 --sentences demo/sentences/sentences.txt.xz
     --out demo/runs/search)

The student learns all-MiniLM-L6-v2's (6 x 384) vectors of Wikipedia sentences and of the texts that will be searched:
what a user has too. Then each finds, for every test query of BANKING77, the nearest of the training texts. Labels score
what is found; nothing learns from them, nor from a query. Hardware: 2 CPU cores; time and score: see demo/search.md.

The student, 3/192/12/768, is half as deep and half as wide: an eighth of the teacher's multiplications, where `3L` has
half of them; and its vectors, so the index, are half as large.
"""

import hashlib
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from contrastill.bundle import Bundle
from contrastill.errors import UserError, counted
from contrastill.screen import Screen
from contrastill.studies import demo
from contrastill.studies.demo import console, step
from contrastill.studies.neighbours import Texts, difference, examples, plain, score_all
from contrastill.studies.run import markdown_table

STUDENT = "3/192/12/768"
SETTINGS: dict[str, Any] = {
    "method": "disco",
    "set": {"temperature": 0.37},  # found more of the teacher's nearest, among texts that were not asked for, than 0.05
    "epochs": 3.0,
    "checks": 3,
    "max_length": 64,
}


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
    from contrastill.loading import load_embedder
    from contrastill.machine import describe_machine

    for name, value in (("limit", limit), ("width", width)):
        if value is not None and value < 1:
            raise UserError(f"expected a {name} of at least 1, got {value}")
    began = time.perf_counter()
    index, queries = read_texts(data, limit)
    source = teacher or str(demo.base_model())
    step("distilling the student, on texts without labels")
    corpus = write_corpus(out, sentences, index, queries, limit)
    made, resumed = distilled(source, student, corpus, out, overwrite, settings)
    step("exporting the student in int8")
    bundles = demo.exported(made.folder)
    models = {"teacher": load_embedder(source), "student": load_embedder(str(made.model))}
    speeds, found = compared(models, bundles, index, queries, width, seconds)
    demo.leave_figures(made.folder, speeds, "student", bundles)
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
        "difference": found["difference"],
        "rows": found["rows"],
        "gates": {name: bundle.metadata["gate"] for name, bundle in bundles.items()},
        "examples": found["examples"],
    }
    demo.leave(out, "search", summary, markdown(summary))
    return summary


def compared(
    models: dict[str, Any], bundles: dict[str, Bundle], index: Texts, queries: Texts, width: int, seconds: float
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """The speed of each, and what each finds: rows of scores, sizes and speeds, the difference, examples."""
    from contrastill.evaluation import size

    step(f"{len(queries.texts):,} queries among {len(index.texts):,} texts, with each")
    vectors = {name: (encode(model, index.texts), encode(model, queries.texts)) for name, model in models.items()}
    shown = dict(vectors)
    for name, bundle in bundles.items():
        vectors[name] = answers(bundle, index.texts), answers(bundle, queries.texts)
    step("timing both, turn by turn")
    texts, read = queries.texts[:: math.ceil(len(queries.texts) / 256)], models["student"].preprocess  # the same tokens
    batches = [read(texts[n : n + 32]) for n in range(0, len(texts), 32)]
    timed = {name: demo.Timed(model, model.device) for name, model in models.items()}
    speeds = demo.speeds_of(timed, bundles, [read([text]) for text in texts], batches, seconds)
    rows, hits = score_all(vectors, index, queries, width)
    sizes = {name: size(model) for name, model in models.items()}
    sizes |= {b: {"parameters": sizes["student"]["parameters"], "size_mb": demo.graph_mb(bundles[b])} for b in bundles}
    rows = [row | sizes[row["of"]] | speeds[row["of"]] for row in rows]
    change = difference(hits, index, queries)
    return speeds, {"rows": rows, "difference": change, "examples": examples(shown, hits, index, queries)}


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
    """Training texts, a line each: general sentences, then the searched texts without the queries."""
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


# ---- models


def distilled(
    teacher: str, student: str, corpus: dict[str, Any], out: Path, overwrite: bool, settings: dict[str, Any]
) -> tuple[Any, bool]:
    """(the run, whether it was taken up): a student there already, or half made, is, unless `overwrite`."""
    from contrastill.training import distill

    asked = {
        "teacher": [teacher],
        "student": student,
        "texts": [str(corpus["path"])],
        "cache": str(out / "cache"),
        "out": str(out / "student"),
        **SETTINGS,
        **settings,
    }
    made, resumed = demo.trained(distill, asked, overwrite)
    spent, held = made.metrics["seconds"], made.metrics["student"]
    agreement = f", agreement {held['agreement']:.3f}" if "agreement" in held else ""
    console.print(
        f"{made.metrics['steps']} steps in {sum(spent.values()):.0f} s, of these {spent['teacher outputs']:.0f} s the "
        f"teacher's{agreement}{' (taken up)' if resumed else ''}",
    )
    return made, resumed


def encode(model: Any, texts: list[str]) -> Tensor:
    """Unit vectors, (texts, width)."""
    bar = sys.stderr.isatty()
    return model.encode(texts, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=bar).float().cpu()


def answers(bundle: Bundle, texts: list[str]) -> Tensor:
    """Unit vectors, as `encode` gives them."""
    return nn.functional.normalize(torch.from_numpy(bundle.run(texts)))


# ---- showing it

HEAD = ("model", "width", "index MB", "nearest", "interval", "kept", "top 10", "overlap", *demo.SPEED)


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
        *demo.speed_cells(row, teacher),
    ]


def hit_cells(example: dict[str, Any]) -> list[list[str]]:
    """The best hits of teacher and student, a rank a row."""
    ranks = zip(example["hits"]["teacher"], example["hits"]["student"], strict=True)
    return [[f"{'✓' if hit['right'] else '✗'} {hit['text']} ({hit['cosine']:.2f})" for hit in pair] for pair in ranks]


def markdown(summary: dict[str, Any]) -> str:
    rows, machine, corpus = summary["rows"], summary["machine"], summary["corpus"]
    change, low, high = (f"{100 * value:+.2f}" for value in summary["difference"])
    shown = []
    for one in summary["examples"]:
        pairs = [[cell.replace("|", "\\|") for cell in pair] for pair in hit_cells(one)]
        shown += ["", f"**{plain(one['query'])}**", "", *markdown_table(("teacher", "student"), pairs)]
    later = " and without what an earlier call had done" if summary["resumed"] else ""
    partly = [f"Of {summary['limit']} texts of each kind only (`--limit`): a trial, no result.", ""]
    return "\n".join(
        [
            f"# Search: {summary['teacher']} to `{summary['student']}`",
            "",
            *(partly if summary["limit"] else []),
            f"`make demo-embeddings`, {summary['wall_s'] / 60:.1f} minutes without the installation{later}, on "
            f"{machine['cpu']}, {counted(rows[0]['threads'], 'thread')}; {summary['metric']}. The teacher "
            "runs in float32 here.",
            "",
            *markdown_table(HEAD, (cells(row, rows[0]) for row in rows)),
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
    screen, rows = Screen(), summary["rows"]
    title = "BANKING77, searched with its test texts"
    screen.print(demo.screen_table(title, HEAD, (cells(row, rows[0]) for row in rows)))
    for one in summary["examples"]:
        hits = Table("teacher", "student", title=f"“{plain(one['query'])}”", title_justify="left")
        for pair in hit_cells(one):
            hits.add_row(*pair)
        screen.print(hits)


def main() -> None:
    parser = demo.demo_parser(__doc__)
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
    demo.finish(run, show, stopped="stopped; the same command continues from the saved steps", **args)
    shutil.rmtree(args["out"] / "cache", ignore_errors=True)
    print(f"the student's page, to be opened in a browser: {args['out'] / 'student' / 'report.html'}")
    print(f"written: {args['out'] / 'search.md'}, {args['out'] / 'search.json'}; student below {args['out']}")


if __name__ == "__main__":
    main()
