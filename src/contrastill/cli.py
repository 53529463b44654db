"""The command line: each command is the function of the same name, each option a field of its settings."""

import contextlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from contrastill.errors import CheckFailed, UserError
from contrastill.ranges import Range, checked
from contrastill.results import RunRecord
from contrastill.screen import LogHandler, Screen, json_text, open_streams, reader_gone, say
from contrastill.settings import (
    Bench,
    CacheBuild,
    Contrast,
    Distillation,
    EmbeddingDistillation,
    Evaluation,
    Export,
    Finetuning,
    Pretraining,
    Serving,
    SuiteEvaluation,
    Verification,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Make a slow text encoder small and fast by contrastive knowledge distillation, and prove what it kept.",
)
caches = typer.Typer(no_args_is_help=True, help="Stored teacher outputs: fill, list, check and empty the cache.")
app.add_typer(caches, name="cache")
console = Screen(stderr=True)  # stdout is for results alone

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; all else goes to stderr.")]

FAULT = "this is a fault of Contrastill, not of what you gave it; please report the lines above"


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 a failed run or check, 2 bad input, 130 interrupted (and saved)."""
    open_streams()
    try:
        app()
    except Exception:
        traceback.print_exc()
        console.error("error:", FAULT)
        raise SystemExit(1) from None


@contextlib.contextmanager
def reporting(
    as_json: bool = False, *, transformers: bool = True
) -> Iterator[Callable[[Any, Callable[[], None] | None], None]]:
    """Keeps stdout for the result; turns a user's mistake into a message and exit code 2.

    transformers: whether the command uses it; one that does not starts without it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[LogHandler(console)], force=True)
    for noisy in ("httpx", "transformers", "datasets", "accelerate", "filelock", "fsspec", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    out = sys.stdout

    def show(result: Any, pretty: Callable[[], None] | None = None) -> None:
        if as_json or pretty is None:
            print(json_text(result, ascii_only=not out.encoding.lower().startswith("utf")), file=out)
        else:
            with contextlib.redirect_stdout(out):
                pretty()
        out.flush()

    try:
        if transformers:
            from transformers.utils import logging as transformers_logging

            transformers_logging.disable_progress_bar()
        with contextlib.redirect_stdout(sys.stderr):
            yield show
    except UserError as error:
        console.error("error:", error)
        raise typer.Exit(1 if isinstance(error, CheckFailed) else 2) from None
    except KeyboardInterrupt as stop:
        console.error("stopped.", stop, style="bold yellow")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        reader_gone()


# ---- options from settings


def command(
    settings: type | tuple[type, ...], help: str, to: typer.Typer = app, **extra: inspect.Parameter
) -> Callable[[Callable[..., None]], None]:
    """Registers `run(**options)` as a command whose options are the fields of `settings`, and `extra`.

    Of several settings the options are those of all; which of them a call means is for `run` to tell.

    Every option may be left out here: what is required is seen when the settings are built, so that `--from` and
    `--resume` can supply it.
    """

    def register(run: Callable[..., None]) -> None:
        kinds = settings if isinstance(settings, tuple) else (settings,)
        known = [f for kind in kinds for f in fields(kind)]
        parameters = {f.name: parameter(f, [g for g in known if g.name == f.name]) for f in known} | extra

        def call(**options: Any) -> None:
            run(**options)

        call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        to.command(run.__name__.rstrip("_"), help=help)(call)

    return register


def parameter(f: Field, same: list[Field]) -> inspect.Parameter:
    """One field as one option, told from `same`, the fields of its name in all settings; None means "not given"."""
    required = all(g.default is MISSING and g.default_factory is MISSING for g in same)
    flag = "--" + f.name.replace("_", "-")
    kinds = [g.type for g in same]
    kind: Any = next((k for k in kinds if getattr(k, "__origin__", None) is list), kinds[0])
    unsaid = (MISSING, None, False)
    defaults = list(dict.fromkeys(str(g.default) for g in same if not any(g.default is each for each in unsaid)))
    helps = list(dict.fromkeys(g.metadata["help"] for g in same))
    ranges = list(dict.fromkeys(str(g.metadata["range"]) for g in same if str(g.metadata["range"])))
    text = "; or: ".join(helps) + (" [required]" if required else "")
    info = typer.Option(
        *([f"{flag}/--no-{f.name.replace('_', '-')}"] if kind is bool else [flag]),
        help=text
        + (f" [default: {'; or '.join(defaults)}]" if defaults else "")
        + "".join(f" [{one}]" for one in ranges),
        rich_help_panel=f.metadata["panel"],
        show_default=False,
    )
    if getattr(kind, "__origin__", None) is dict:
        kind = list[str]
    annotation = kind | None if not str(kind).endswith("None") else kind
    return inspect.Parameter(
        f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation, info]
    )


def extra(name: str, kind: Any, help: str, flag: str) -> inspect.Parameter:
    info = typer.Option(flag, help=help, rich_help_panel="Output", show_default=False)
    default = False if kind is bool else None
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind if kind is bool else kind | None, info],
    )


AS_JSON = extra("as_json", bool, "Print the result as JSON on stdout; all else goes to stderr.", "--json")
FROM = extra("from_", Path, "Take the settings from this run.json; options given here replace them.", "--from")
RESUME = extra("resume", Path, "Continue the interrupted run in this folder, as it was.", "--resume")


def given(options: dict[str, Any], settings: type) -> dict[str, Any]:
    """The options that were given, in the types of `settings`: name=value lists as dictionaries, a list of one as one.

    Raises:
        UserError: an option that belongs to another kind of run; one given twice that is taken once.
    """
    result = {key: value for key, value in options.items() if value is not None and value != []}
    kinds = {f.name: f.type for f in fields(settings)}
    if foreign := set(result) - set(kinds):
        names = ", ".join(flags(foreign))
        raise UserError(
            f"{names}: expected options of this kind of run ({settings.__doc__}), got another's; see --help"
        )
    for name, value in result.items():
        origin = getattr(kinds[name], "__origin__", None)
        if origin is dict:
            pairs = [item.partition("=") for item in value]
            keys = [key for key, _, _ in pairs]
            if bad := [key for key, equals, _ in pairs if not equals or not key]:
                raise UserError(f"--{name}: expected name=value, got {bad[0][:80]!r}")
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise UserError(f"--{name}: expected each name once, got {twice[0][:80]!r} {len(twice)} times")
            result[name] = {key: after for key, _, after in pairs}
        elif isinstance(value, list) and kinds[name] is str:
            if len(value) > 1:
                raise UserError(f"--{name}: expected one, got {len(value)}")
            result[name] = value[0]
    return result


def settings_of(settings: Any, options: dict[str, Any], from_: Path | None, resume: Path | None) -> Any:
    """The settings that were asked for.

    Raises:
        UserError: a required one is missing, or --resume came with others.
    """
    chosen = given(options, settings)
    if resume is not None:
        if from_ is not None:
            raise UserError("--resume takes the settings of the run it continues; leave out --from")
        free = {"overwrite", "force", "report_to"}
        if other := set(chosen) - free:
            raise UserError(f"--resume continues a run as it was; leave out {', '.join(flags(other))}")
        return settings.of(resume / "run.json", **chosen, out=str(resume), overwrite=False)
    if from_ is not None:
        if "out" not in chosen:
            raise UserError("--from repeats a run: give its new folder with --out")
        return settings.of(from_, **chosen)
    return settings.given(chosen)


def flags(names: Any) -> list[str]:
    return sorted("--" + name.replace("_", "-") for name in names)


# ---- commands


def trained(run: Any, show: Callable[..., None]) -> None:
    show({"folder": str(run.folder), "model": str(run.model), **run.metrics}, lambda: print_run(run))


def print_run(run: Any) -> None:
    metrics, stdout = run.metrics, Screen()
    if "base" in metrics:
        return print_contrast(run)
    columns = [name for name in ("teacher", "student", "model") if name in metrics]
    table = Table(title=f"{metrics['task']} ({metrics['metric']})", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for split in ("dev", "test"):
        if split in metrics[columns[-1]]:
            scores = [metrics[name][split] for name in columns]
            cells = [
                f"{s['metrics'][metrics['metric']]:.4f} ({s['interval'][0]:.3f}-{s['interval'][1]:.3f})" for s in scores
            ]
            table.add_row(split, *cells)
    if (chosen_by := metrics["metric"]) in metrics[columns[-1]]:
        table.add_row(f"dev {chosen_by}", *(f"{metrics[name].get(chosen_by, ''):.4}" for name in columns))
    table.add_row("parameters", *(f"{metrics[name]['parameters']:,}" for name in columns))
    table.add_row("MB", *(f"{metrics[name]['size_mb']:.1f}" for name in columns))
    if "sts" in metrics:
        for each in next(iter(metrics["sts"].values())):
            table.add_row(each, *(f"{metrics['sts'][name][each]:.2f}" for name in columns))
    stdout.print(table)
    if "kept" in metrics:
        stdout.print(
            "kept of the teacher: " + ", ".join(f"{split} {share:.1%}" for split, share in metrics["kept"].items())
        )
    print_places(run)


def print_places(run: Any) -> None:
    """Where the model is, and the run's page."""
    say(f"model: {run.model}")
    if (page := run.folder / "report.html").is_file():
        say(f"report: {page}")


def print_contrast(run: Any) -> None:
    metrics = run.metrics
    table = Table(title=f"{metrics['base']}, {metrics['train_rows']:,} rows", title_justify="left")
    for column in ("Spearman x 100", "before", "after"):
        table.add_column(column, justify="left" if " " in column else "right")
    scores = {"dev": metrics["dev"]} if "dev" in metrics else {}
    if "sts" in metrics:
        before, after = metrics["sts"]["before"], metrics["sts"]["after"]
        scores |= {name: {"before": before[name], "after": after[name]} for name in after}
    for name, score in scores.items():
        table.add_row(name, f"{score['before']:.2f}", f"{score['after']:.2f}")
    stdout = Screen()
    if scores:
        stdout.print(table)
    if found := metrics.get("retrieval"):
        stdout.print(
            f"training rows whose second text is the nearest: {found['before']:.1f} % before, {found['after']:.1f} % "
            "after; --dev scores the model on other texts"
        )
    stdout.print(f"{metrics['parameters']:,} parameters, {metrics['size_mb']:.1f} MB")
    print_places(run)


def training_command(name: str, kinds: tuple[type, ...], help: str) -> None:
    """`finetune`, `distill` and their like: the same steps around functions of those names."""

    def run(as_json: bool, from_: Path | None, resume: Path | None, **options: Any) -> None:
        with reporting(as_json) as show:
            kind = kinds[0] if len(kinds) == 1 else distillation_of(options, from_, resume)
            chosen = settings_of(kind, options, from_, resume)
            from contrastill import training

            trained(getattr(training, name)(resume=resume is not None, **vars(chosen)), show)

    run.__name__ = name
    command(kinds, help, as_json=AS_JSON, from_=FROM, resume=RESUME)(run)


def distillation_of(options: dict[str, Any], from_: Path | None, resume: Path | None) -> type:
    """The settings of the distillation that is asked for: its method, given or in the run it repeats, decides."""
    method, record = options["method"], resume / "run.json" if resume else from_
    if method is None and record is not None:
        method = RunRecord.read(record).setting("method", str)
    if method is None:
        return Distillation
    from contrastill.training import distillation

    return distillation(method)


training_command(
    "finetune",
    (Finetuning,),
    """Train a model on labels: a teacher, or any classifier or regressor.

    Examples:

    contrastill finetune --model bert-base-uncased --data glue/mrpc --out runs/teacher

    contrastill finetune --model ./encoder --data intents.csv --text query --label intent --out runs/teacher
    """,
)
training_command(
    "distill",
    (Distillation, EmbeddingDistillation),
    """Make a small student of a teacher: a fine-tuned one and its data, or a sentence-embedding one and any texts.

    Examples:

    contrastill distill --teacher runs/teacher/model --data glue/mrpc --out runs/student

    contrastill distill --teacher runs/teacher/model --data intents.csv --method kd --set temperature=4 --out runs/kd

    contrastill distill --teacher runs/teacher/model --data intents.csv --unlabelled more.txt --out runs/more

    contrastill distill --method disco --teacher ORG/EMBEDDER --texts sentences.txt.xz --out runs/disco

    contrastill distill --resume runs/student

    contrastill distill --from runs/student/run.json --seed 1 --out runs/student-1
    """,
)


training_command(
    "pretrain",
    (Pretraining,),
    """Make a general student: an encoder distilled layer by layer on any texts, for tasks' students to start from.

    Examples:

    contrastill pretrain --teacher sentence-transformers/all-mpnet-base-v2 --texts sentences.txt.xz --out runs/general

    contrastill distill --teacher runs/teacher/model --data glue/mrpc --start runs/general/student --out runs/student
    """,
)
training_command(
    "contrast",
    (Contrast,),
    """Train a sentence-embedding model contrastively, on pairs of texts or on texts alone.

    Examples:

    contrastill contrast --model runs/disco/student --pairs nli.csv --dev glue/stsb --out runs/contrast

    contrastill contrast --model runs/disco/student --pairs sentences.txt --unsupervised --out runs/simcse
    """,
)


@command(
    (Evaluation, SuiteEvaluation),
    """Score a model on labelled examples, or a sentence-embedding model on a suite of tasks.

    Examples:

    contrastill evaluate --model runs/student/student --data glue/mrpc --split dev

    contrastill evaluate --suite sts --model runs/disco/student

    contrastill evaluate --suite mteb --tasks NFCorpus --model runs/disco/student --json
    """,
    as_json=AS_JSON,
)
def evaluate(as_json: bool, **options: Any) -> None:
    if options["suite"] is not None:
        return evaluate_suite(as_json, options)
    with reporting(as_json) as show:
        chosen = settings_of(Evaluation, options, None, None)
        from contrastill.training import evaluate as score

        result = score(**vars(chosen))

        def pretty() -> None:
            low, high = result["interval"]
            for name, value in result["metrics"].items():
                first = name == next(iter(result["metrics"]))
                say(f"{name} {value:.4f}" + (f" ({low:.4f} to {high:.4f})" if first else ""))
            say(f"{result['rows']} rows, {result['parameters']:,} parameters, {result['size_mb']:.1f} MB")

        show(result, pretty)


def evaluate_suite(as_json: bool, options: dict[str, Any]) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(SuiteEvaluation, options, None, None)
        from contrastill.training.suite import evaluate_suite as score

        result, intervals = score(chosen)

        def pretty() -> None:
            table = Table(title=f"{chosen.suite}: {chosen.model}", title_justify="left")
            for column in ("", "score", *(["95 % interval"] if intervals else [])):
                table.add_column(column, justify="right" if column else "left")
            for name, value in result.items():
                low_high = [f"{intervals[name][0]:.2f} to {intervals[name][1]:.2f}"] if intervals else []
                table.add_row(name, f"{value:.2f}", *low_high)
            Screen().print(table)

        show(result, pretty)


@command(
    Distillation,
    """Check the machine and, given a teacher and data, everything a distillation would check, without training.

    Examples:

    contrastill doctor

    contrastill doctor --teacher runs/teacher/model --data intents.csv
    """,
    as_json=AS_JSON,
)
def doctor(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        from contrastill.machine import describe_machine

        result: dict[str, Any] = {"machine": describe_machine()}
        if any(value not in (None, []) for value in options.values()):
            from contrastill.training import check_run, plan_distillation

            chosen = settings_of(Distillation, {**options, "out": options["out"] or "."}, None, None)
            result["checks"] = check_run(plan_distillation(chosen)).as_dict()

        def pretty() -> None:
            for name, value in result["machine"].items():
                say(f"{name.replace('_', ' '):>24}  {value}")
            for check in result.get("checks", []):
                mark = "ok" if check["ok"] else "FAILED" if check["fatal"] else "look"
                say(f"{mark:>24}  {check['name']}: {check['seen']}")

        show(result, pretty)
        if any(not check["ok"] and check["fatal"] for check in result.get("checks", [])):
            raise typer.Exit(1)


def argument(name: str, help: str) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, typer.Argument(help=help, show_default=False)]
    )


BUNDLE = argument("bundle", "Folder that `contrastill export` wrote.")


@command(
    Export,
    """Make one deployable file of a model: encoder, pooling and head in one graph, checked against torch on dev.

    Examples:

    contrastill export runs/student --to openvino --precision int8

    contrastill export runs/disco --to onnx --data glue/stsb --out bundles/embedder

    contrastill export ORG/CLASSIFIER --data intents.csv --max-drop 0.3 --out bundles/intents
    """,
    model=argument("model", "Folder of the model, or of the run that made it, or Hub name."),
    as_json=AS_JSON,
)
def export(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(Export, options, None, None)
        from contrastill.exporting import export as run
        from contrastill.exporting.card import snippet

        result = run(**vars(chosen))

        def pretty() -> None:
            print_bundle(result.metadata)
            say(f"bundle: {result.folder}\n\nTo run it:\n")
            say(snippet(result.metadata, str(result.folder)))

        show({"bundle": str(result.folder), **result.metadata}, pretty)


def print_bundle(metadata: dict[str, Any]) -> None:
    gate = metadata["gate"]
    size = sum(one["bytes"] for one in metadata["files"].values()) / 1e6
    recipe = f" ({metadata['recipe']})" if metadata["recipe"] else ""
    say(f"{metadata['name']}: {metadata['runtime']}, {metadata['precision']}{recipe}, {size:.1f} MB")
    if gate is None:
        say("quality: not measured, as no labelled data or texts were given (--data)")
        return
    table = Table(title=f"{gate['data']}, {gate['rows']:,} texts", title_justify="left")
    for column in ("", "torch fp32", "exported"):
        table.add_column(column, justify="right" if column else "left")
    pace, alike = gate["latency_ms"], gate["agreement"]
    table.add_row(f"{gate['metric']} x 100", f"{100 * gate['torch']:.2f}", f"{100 * gate['bundle']:.2f}")
    table.add_row("one text, ms", f"{pace['torch_p50']:.2f}", f"{pace['bundle_p50']:.2f}")
    Screen().print(table)
    same = alike["equal_labels"]
    say(
        f"lost {gate['drop_points']:.2f} of {gate['max_drop']:g} points allowed; answers differ from torch's by "
        f"{alike['max_abs_difference']:.4f} at most"
        + (
            f", cosine {alike['cosine_mean']:.4f}, least {alike['cosine_min']:.4f}"
            if alike["cosine_mean"] is not None
            else ""
        )
        + (f"; {same:.2%} of the labels equal" if same is not None else "")
    )


@command(
    Verification,
    """Check a bundle: its files, its answers to stored texts, and, given data, its quality. Exit code 1 if one fails.

    Examples:

    contrastill verify bundles/intents

    contrastill verify bundles/intents --data intents-new.csv --max-drop 1
    """,
    bundle=BUNDLE,
    as_json=AS_JSON,
)
def verify(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(Verification, options, None, None)
        from contrastill.exporting import verify as check

        found = check(**vars(chosen))

        def pretty() -> None:
            say(f"{found['files']} files as they were exported")
            if "probes" in found:
                say(f"{found['probes']['rows']} stored texts, least likeness {found['probes']['likeness_min']:.4f}")
            if "value" in found:
                say(f"{found['metric']} {100 * found['value']:.2f} on {found['data']}, {found['rows']:,} texts")
            if "as_exported" in found:
                say(f"when exported: {100 * found['as_exported']['bundle']:.2f}")
            for problem in found["problems"]:
                say(f"PROBLEM: {problem}")

        show(found, pretty)
        if found["problems"]:
            raise typer.Exit(1)


@command(
    Serving,
    """Serve a bundle over HTTP: predictions or vectors as JSON, OpenAI's /v1/embeddings, health, Prometheus metrics.

    It needs neither torch nor transformers. SIGTERM and Ctrl-C end it after what it has taken is answered.

    Examples:

    contrastill serve bundles/intents

    contrastill serve bundles/embedder --port 9000 --threads 4 --workers 4
    """,
    bundle=BUNDLE,
)
def serve(**options: Any) -> None:
    with reporting(transformers=False):
        chosen = settings_of(Serving, options, None, None)
        try:
            from contrastill.serving.server import serve as run
        except ImportError as error:
            raise UserError(f"{error}; run pip install 'contrastill[serve]'") from None
        code = run(chosen)
    raise typer.Exit(code)


@app.command(name="compare")
def compare_(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("comparison.html"),
    as_json: Json = False,
) -> None:
    """Write one page of several runs, side by side; of a single run, its report again.

    What came after a run is in it: exported bundles below its folder, and bench.json.

    Examples:

    contrastill compare runs/student runs/kd --out comparison.html

    contrastill compare runs/student --out runs/student/report.html
    """
    with reporting(as_json, transformers=False) as show:
        from contrastill.report import compare

        page = compare(runs, out)
        show({"page": str(page)}, lambda: say(page))


@command(
    Bench,
    """Time models side by side: latency, throughput, load time, memory, size; in PyTorch, ONNX Runtime and OpenVINO.

    Each model runs in a process of its own; they take turns, so that what disturbs one disturbs all. Models are
    exported for the occasion, without a check of their answers.

    Examples:

    contrastill bench --model runs/teacher --model runs/student --texts sentences.txt --out bench.json

    contrastill bench --model random:bert-base --model random:4L-312 --length 128 --precision fp32

    contrastill bench --run runs/student
    """,
    as_json=AS_JSON,
)
def bench(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(Bench, options, None, None)
        from contrastill.timing import bench as time_models
        from contrastill.timing.table import print_table

        result = time_models(**vars(chosen))
        show(result, lambda: print_table(result))
        if all("error" in row for row in result["rows"]):
            raise typer.Exit(1)


def allowed(range_: Range) -> str:
    return " | ".join(range_.choices) if range_.choices else str(range_)


@app.command()
def methods(as_json: Json = False) -> None:
    """List the distillation methods: their papers, stages and settings."""
    with reporting(as_json) as show:
        from contrastill.methods import METHODS, method_ranges, method_settings

        result: dict[str, Any] = {
            name: {
                "paper": (inspect.getdoc(cls) or "").splitlines()[0],
                "needs": sorted(cls.needs),
                "settings": method_settings(name),
                "ranges": {key: one.as_dict() for key, one in method_ranges(name).items()},
                "stages": {stage.name: {"share": stage.share, "weights": dict(stage.weights)} for stage in cls.stages},
            }
            for name, cls in METHODS.items()
        }

        def pretty() -> None:
            for name, facts in result.items():
                say(f"{name}: {facts['paper']}")
                for stage, what in facts["stages"].items():
                    say(f"    stage {stage}, {what['share']:.0%} of the run: {what['weights']}")
                ranges = method_ranges(name)
                listed = (f"{k}={v} [{allowed(ranges[k])}]" for k, v in facts["settings"].items())
                say("    settings: " + (", ".join(listed) or "none"))

        show(result, pretty)


@command(
    CacheBuild,
    """Run a teacher over a corpus once, and store what it says of every text.

    A run of `contrastill distill` stores what it needs by itself; this is for corpora, large or shared. What is stored
    already is not computed again, so an interrupted build is simply started again. Several processes share the work
    under torchrun.

    Examples:

    contrastill cache build --teacher sentence-transformers/all-mpnet-base-v2 --texts sentences.txt.xz

    contrastill cache build --teacher ./teacher --texts queries.csv --text query --fields logits --fields layer-6-mean
    """,
    to=caches,
    as_json=AS_JSON,
)
def build(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(CacheBuild, options, None, None)
        from contrastill.training import build_cache

        result = build_cache(**vars(chosen))

        def pretty() -> None:
            say(
                f"{result['texts']:,} texts, {result['teacher_forwards']:,} of them new; "
                f"{result['bytes'] / 1e6:,.1f} MB stored"
            )
            for field, folder in result["folders"].items():
                say(f"{field}: {folder}")

        show(result, pretty)


Root = Annotated[
    Path | None, typer.Option("--cache", help="Folder of the cache ($CONTRASTILL_CACHE, else ~/.cache/contrastill).")
]


@caches.command("list")
def list_(cache: Root = None, as_json: Json = False) -> None:
    """List what is stored, teacher by teacher.

    Example: contrastill cache list
    """
    with reporting(as_json) as show:
        from contrastill.cache import cache_root, entries

        root = cache_root(cache)
        found = [entry.as_dict() for entry in entries(root)]

        def pretty() -> None:
            table = Table(title=str(root), title_justify="left")
            for name in ("teacher", "fingerprint", "field", "stored", "texts", "MB", "last used"):
                table.add_column(name, justify="right" if name in ("texts", "MB") else "left")
            for one in found:
                table.add_row(
                    "(store.json is damaged)" if one["damaged"] else one["name"],
                    one["teacher"][:12], one["field"], one["stored"], f"{one['texts']:,}",
                    f"{one['bytes'] / 1e6:,.1f}", one["used"],
                )  # fmt: skip
            Screen().print(table)
            say(f"{sum(one['bytes'] for one in found) / 1e6:,.1f} MB in all")

        show({"root": str(root), "entries": found}, pretty)


@caches.command("verify")
def verify_cache(cache: Root = None, as_json: Json = False) -> None:
    """Read every stored file whole and check it; exit code 1 if one is damaged. Nothing is changed.

    A damaged file does no harm: the next run that opens it removes it and computes its texts again.

    Example: contrastill cache verify
    """
    with reporting(as_json) as show:
        from contrastill.cache import cache_root
        from contrastill.cache import verify as check

        checked = list(check(cache_root(cache)))
        damaged = [str(path) for path, whole in checked if not whole]

        def pretty() -> None:
            for path in damaged:
                say(f"damaged: {path}")
            say(f"{len(checked)} files, {len(damaged)} damaged")

        show({"files": len(checked), "damaged": damaged}, pretty)
        if damaged:
            raise typer.Exit(1)


@caches.command("prune")
def prune(
    cache: Root = None,
    unused_days: Annotated[
        float | None, typer.Option(help="Delete what was not used for so many days; 0: everything. [0 <= x <= 36,500]")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Only of this teacher: its name, or how its fingerprint begins.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Delete stored teacher outputs.

    Examples:

    contrastill cache prune --unused-days 30

    contrastill cache prune --teacher runs/teacher/model --dry-run
    """
    with reporting(as_json) as show:
        from contrastill.cache import cache_root
        from contrastill.cache import prune as delete

        days = checked(unused_days, float | None, Range(at_least=0, at_most=36_500, unit="days"), name="--unused-days")
        gone = [
            entry.as_dict() for entry in delete(cache_root(cache), unused_days=days, teacher=teacher, dry_run=dry_run)
        ]

        def pretty() -> None:
            for one in gone:
                say(f"{one['name'] or one['teacher'][:12]} {one['field']}: {one['bytes'] / 1e6:,.1f} MB")
            say(f"{sum(one['bytes'] for one in gone) / 1e6:,.1f} MB {'would be ' if dry_run else ''}deleted")

        show({"deleted": gone, "dry_run": dry_run}, pretty)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from contrastill import __version__

        say(__version__)
        raise typer.Exit


if __name__ == "__main__":
    main()
