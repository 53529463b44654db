"""Commands that put a model to use: export, verify, predict, serve, bench, compare."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from contrastill.cli.options import AS_JSON, Json, Kind, argument, command, settings_of
from contrastill.cli.show import print_export, print_predictions, print_verification, reporting
from contrastill.screen import say
from contrastill.settings import Bench, Export, Prediction, Serving, Verification

__all__ = ["register"]

EXPORT = """Export a model as one deployable file: encoder, pooling and head in one graph, checked against torch on dev.

    Examples:

    contrastill export runs/student --to openvino --precision int8

    contrastill export runs/disco --to onnx --data glue/stsb --out bundles/embedder

    contrastill export ORG/CLASSIFIER --data intents.csv --max-drop 0.3 --out bundles/intents
    """
VERIFY = """Check a bundle: its files, its answers to stored texts, and, given data, its quality. Exit code 1 if one
    fails.

    Examples:

    contrastill verify bundles/intents

    contrastill verify bundles/intents --data intents-new.csv --max-drop 1
    """
SERVE = """Serve a bundle over HTTP: predictions or vectors as JSON, OpenAI's /v1/embeddings, health, Prometheus
    metrics.

    It needs neither torch nor transformers. After SIGTERM or Ctrl-C it answers the accepted requests, then stops.

    Examples:

    contrastill serve bundles/intents

    contrastill serve bundles/embedder --port 9000 --threads 4 --workers 4
    """
BENCH = """Time models side by side: latency, throughput, load time, memory, size; in PyTorch, ONNX Runtime and
    OpenVINO.

    Each model runs in its own process; they take turns, so that a busy machine slows all of them equally. Models are
    exported for the measurement only, and their answers are not checked.

    Examples:

    contrastill bench --model runs/teacher --model runs/student --texts sentences.txt --out bench.json

    contrastill bench --model random:bert-base --model random:4L-312 --length 128 --precision fp32

    contrastill bench --run runs/student
    """
PREDICT = """Answer the texts of a file of any size: labels and probabilities, scores, entities or vectors, a row each.

    The file is checked before work starts. The output file appears only when it is complete: an interrupted call
    leaves no file and has to be run again.

    Examples:

    contrastill predict bundles/intents --data queries.csv --text query --keep id --out answers.csv

    contrastill predict runs/student --data queries.txt.gz --probabilities --out answers.jsonl

    contrastill predict bundles/embedder --data sentences.parquet --out vectors.parquet
    """
BUNDLE = argument("bundle", "Folder that `contrastill export` wrote.")
MODEL = argument("model", "Folder of the model, or of the run that made it, or Hub name.")
ANSWERING = argument("model", "Bundle, folder of a model or of the run that made it, or Hub name.")


def export(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(Export, options)
        from contrastill.exporting import export as run

        made = run(**vars(chosen))
        show({"bundle": str(made.folder), **made.metadata}, lambda: print_export(made))


def verify(as_json: bool, **options: Any) -> None:
    with reporting(as_json, transformers=False) as show:
        chosen = settings_of(Verification, options)
        from contrastill.exporting.verify import verify as check

        found = check(**vars(chosen))
        show(found, lambda: print_verification(found))
        if found["problems"]:
            raise typer.Exit(1)


def predict(as_json: bool, **options: Any) -> None:
    out = sys.stdout
    with reporting(as_json, transformers=False) as show:
        chosen = settings_of(Prediction, options)
        from contrastill.prediction import predict as run

        made = run(stream=out, **vars(chosen))
        if made.out == "-":  # stdout has the answers
            print_predictions(made)
        else:
            show(made.to_json(), lambda: print_predictions(made))


def serve(**options: Any) -> None:
    with reporting(transformers=False):
        chosen = settings_of(Serving, options)
        from contrastill.serving import serve as run

        code = run(**vars(chosen))
    raise typer.Exit(code)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("comparison.html"),
    to: Annotated[
        Path | None,
        typer.Option(
            help="The run that differences are given to, one of RUN... [default: the first]", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one page of several runs, side by side; of a single run, its report again.

    What came after a run is in it: exported bundles below its folder, and bench.json.

    Examples:

    contrastill compare runs/student runs/kd --out comparison.html

    contrastill compare runs/student runs/kd runs/seed-1 --to runs/kd --out comparison.html

    contrastill compare runs/student --out runs/student/report.html
    """
    with reporting(as_json, transformers=False) as show:
        from contrastill.report import compare as write

        page = write(runs, out, to)
        show({"page": str(page)}, lambda: say(page))


def bench(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(Bench, options)
        from contrastill.timing import bench as time_models
        from contrastill.timing.table import print_table

        result = time_models(**vars(chosen))
        show(result, lambda: print_table(result))
        if all("error" in row for row in result["rows"]):
            raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    command(app, export, Kind(Export, EXPORT), MODEL, AS_JSON)
    command(app, verify, Kind(Verification, VERIFY), BUNDLE, AS_JSON)
    command(app, predict, Kind(Prediction, PREDICT), ANSWERING, AS_JSON)
    command(app, serve, Kind(Serving, SERVE), BUNDLE)
    app.command()(compare)
    command(app, bench, Kind(Bench, BENCH), AS_JSON)
