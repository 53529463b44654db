"""Prints a command's result on stdout, as JSON or by its one printer; all else goes to stderr."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from contrastill.errors import CheckFailed, UserError, lacking
from contrastill.results import RunResult, result_table
from contrastill.screen import LogHandler, Screen, json_text, reader_gone, say

if TYPE_CHECKING:
    from contrastill.augmenting import Augmented
    from contrastill.exporting.run import Exported
    from contrastill.exporting.verify import Verified
    from contrastill.labelling import Labelled
    from contrastill.prediction import Predictions
    from contrastill.teachers.folder import Entry
    from contrastill.training.cache_build import Built
    from contrastill.training.checks import Report
    from contrastill.training.examples import Evaluated

__all__ = ["Show", "console", "reporting"]

console = Screen(stderr=True)  # stdout is for results alone

Show = Callable[[Any, Callable[[], None] | None], None]
NOISY = ("httpx", "transformers", "datasets", "accelerate", "filelock", "fsspec", "urllib3")


@contextlib.contextmanager
def reporting(as_json: bool = False, *, transformers: bool = True) -> Iterator[Show]:
    """Keeps stdout for the result; turns a user's mistake into a message and exit code 2.

    Gives `show(result, pretty)`: it prints the result as JSON if that was asked for or `pretty` is None.

    transformers: whether the command uses it; one that does not starts without it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[LogHandler(console)], force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    out = sys.stdout

    def show(result: Any, pretty: Callable[[], None] | None) -> None:
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
    except ModuleNotFoundError as error:
        if (found := lacking(error)) is None:
            raise
        console.error("error:", found)
        raise typer.Exit(2) from None
    except KeyboardInterrupt as stop:
        console.error("stopped.", stop, style="bold yellow")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        reader_gone()


def table_of(title: str, *columns: str) -> Table:
    """A table whose first column is words, the others figures."""
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


# ---- a printer for each result


def print_run(folder: Path, model: Path, result: RunResult) -> None:
    """The scores of a training run, and where its model and page are."""
    stdout, found = Screen(), result_table(result)
    if found.rows:
        table = table_of(found.title, *found.columns)
        for row in found.rows:
            table.add_row(*row)
        stdout.print(table)
    for note in found.notes:
        stdout.print(note)
    say(f"model: {model}")
    if (page := folder / "report.html").is_file():
        say(f"report: {page}")


def print_evaluation(made: "Evaluated") -> None:
    """A model's scores on one split."""
    interval = made.scores.interval
    for place, (name, value) in enumerate(made.scores.metrics.items()):
        say(f"{name} {value:.4f}" + ("" if place or interval is None else " ({:.4f} to {:.4f})".format(*interval)))
    for line in selective_lines(made.scores.more):
        say(line)
    say(f"{made.scores.rows} rows, {made.size['parameters']:,} parameters, {made.size['size_mb']:.1f} MB")


def selective_lines(more: Mapping[str, Any]) -> Iterator[str]:
    """Whether probabilities can be believed, what a threshold covers, and texts of no class, a line each."""
    if (found := more.get("calibration")) is not None:
        before = found.get("before")
        yield (
            f"calibration error {found['error']:.1%}"
            + ("" if before is None else f", without temperature {before['error']:.1%}")
            + f" ({found['by_chance']:.1%} by chance alone)"
        )
    if (found := more.get("abstain")) is not None:
        right = (
            ""
            if found["accuracy"] is None
            else f", {found['accuracy']:.1%} of them right (at least {found['low']:.1%})"
        )
        yield (
            f"the bundle's threshold {found['threshold']:.4f} (target {found['target']:.1%}) covers "
            f"{found['coverage']:.1%} of the rows{right}"
        )
    if (found := more.get("target")) is not None and found["reached"]:
        yield (
            f"target {found['target']:.1%}: threshold {found['threshold']:.4f} covers {found['coverage']:.1%} of the "
            f"rows, {found['accuracy']:.1%} of them right (at least {found['low']:.1%})"
        )
    elif found is not None:
        yield f"target {found['target']:.1%}: NOT REACHED by any threshold: {found['reason']}"
    if (found := more.get("out_of_scope")) is not None:
        for name, score in found["scores"].items():
            yield (
                f"{found['texts']:,} texts of no class, by {name}: AUROC {score['auroc']:.4f} "
                "({:.4f} to {:.4f})".format(*score["interval"])
                + f", FPR95 {score['fpr95']:.1%}"
            )
        if "answered" in found:
            yield f"above the threshold {found['threshold']:.4f}: {found['answered']:.1%} of the texts of no class"


def print_suite(title: str, result: dict[str, float], intervals: dict[str, tuple[float, float]]) -> None:
    """A model's score on each task of a suite."""
    table = table_of(title, "", "score", *(["95 % interval"] if intervals else []))
    for name, value in result.items():
        low_high = [f"{intervals[name][0]:.2f} to {intervals[name][1]:.2f}"] if intervals else []
        table.add_row(name, f"{value:.2f}", *low_high)
    Screen().print(table)


def print_checks(machine: dict[str, Any], report: "Report | None") -> None:
    """The machine, and the checks before a run."""
    for name, value in machine.items():
        say(f"{name.replace('_', ' '):>24}  {value}")
    for check in report.checks if report is not None else []:
        mark = "ok" if check.ok else "FAILED" if check.fatal else "look"
        say(f"{mark:>24}  {check.name}: {check.seen}")


def print_export(made: "Exported") -> None:
    """Prints the result of an export, and how to run it."""
    from contrastill.exporting.card import snippet

    print_bundle(made.metadata)
    say(f"bundle: {made.folder}\n\nTo run it:\n")
    say(snippet(made.metadata, str(made.folder)))


def print_bundle(metadata: dict[str, Any]) -> None:
    """A bundle's runtime and size, and what the gate measured."""
    from contrastill.bundle import megabytes

    gate, size = metadata["gate"], megabytes(metadata)
    recipe = f" ({metadata['recipe']})" if metadata["recipe"] else ""
    say(f"{metadata['name']}: {metadata['runtime']}, {metadata['precision']}{recipe}, {size:.1f} MB")
    if gate is None:
        say("quality: not measured, as no labelled data or texts were given (--data)")
        return
    table = table_of(f"{gate['data']}, {gate['rows']:,} texts", "", "torch fp32", "exported")
    pace, alike = gate["latency_ms"], gate["agreement"]
    table.add_row(f"{gate['metric']} x 100", f"{100 * gate['torch']:.2f}", f"{100 * gate['bundle']:.2f}")
    if "calibration" in gate:
        errors = (f"{100 * gate['calibration'][who]['error']:.2f}" for who in ("torch", "bundle"))
        table.add_row("calibration error x 100", *errors)
    table.add_row("one text, ms", f"{pace['torch_p50']:.2f}", f"{pace['bundle_p50']:.2f}")
    Screen().print(table)
    if (abstain := metadata.get("abstain")) is not None:
        say(
            f"target {abstain['target']:.1%}: answers below a probability of {abstain['threshold']:.4f} abstain; above "
            f"are {abstain['coverage']:.1%} of {abstain['rows']:,} texts, {abstain['accuracy']:.1%} of them right (at "
            f"least {abstain['low']:.1%})"
        )
    mean, same = alike["cosine_mean"], alike["equal_labels"]
    lost, most = round(gate["drop_points"], 2), f"{gate['max_drop']:g}"
    change = f"lost {abs(lost):.2f} of {most} points allowed"
    if lost < 0:
        change = f"gained {-lost:.2f} points ({most} may be lost)"
    say(
        f"{change}; answers differ from torch's by {alike['max_abs_difference']:.4f} at most"
        + (f", cosine {mean:.4f}, least {alike['cosine_min']:.4f}" if mean is not None else "")
        + (f"; {same:.2%} of the labels equal" if same is not None else "")
    )


def print_verification(found: "Verified") -> None:
    """Prints the result of a check of a bundle."""
    say(f"{found['files']} files as they were exported")
    say(f"{found['probes']['rows']} stored texts, least likeness {found['probes']['likeness_min']:.4f}")
    if "value" in found:
        say(f"{found['metric']} {100 * found['value']:.2f} on {found['data']}, {found['rows']:,} texts")
    if "as_exported" in found:
        say(f"when exported: {100 * found['as_exported']['bundle']:.2f}")
    for problem in found["problems"]:
        say(f"PROBLEM: {problem}")


def print_predictions(made: "Predictions") -> None:
    """Prints the number of answered rows, and the file of the answers."""
    skipped = f", {made.skipped:,} broken rows left out" if made.skipped else ""
    pace = f"{made.rows / max(made.seconds, 1e-9):,.0f} rows/s"
    say(f"{made.rows:,} rows answered{skipped}; {made.seconds:.1f} s, {pace}")
    if made.out != "-":
        say(f"answers: {made.out}")


def print_labelled(made: "Labelled") -> None:
    """Prints how many texts have a class, what it cost, and the file; of a dry run, the first question too."""
    dry = made.prompt is not None
    if dry:
        say(f"{made.prompt}\n")
    parts = {
        "in the file already": made.stored, "answered": made.answered, "without a class in the answer": made.unanswered,
        "to ask" if dry else "left": made.left, "too long": made.too_long, "broken rows left out": made.skipped,
    }  # fmt: skip
    counts = [f"{count:,} {words}" for words, count in parts.items() if count or words == "answered"]
    say(f"{made.texts:,} different texts: {', '.join(counts)}")
    about = "about " if dry else ""
    price = "" if made.price is None else f", price {about}{made.price:,.4f}, in all {made.spent:,.4f}"
    say(f"{about}{made.tokens_in:,} tokens sent, {'at most ' if dry else ''}{made.tokens_out:,} answered{price}")
    if made.classes:
        say("classes: " + ", ".join(f"{name} {count:,}" for name, count in made.classes.items()))
    if made.stopped:
        say(f"stopped: {made.stopped}")
    if not dry:
        say(f"answers: {made.out}")


def print_augmented(made: "Augmented") -> None:
    """Prints how many texts were made, what was left out, and the file."""
    parts = [f"{made.rows:,} rows, {made.written:,} texts"]
    if made.stored:
        parts.append(f"{made.stored:,} of them in the file already")
    parts.append(f"{made.repeated:,} copies left out that are there already")
    if made.beyond:
        parts.append(f"{made.beyond:,} words beyond the length left as they are")
    say(", ".join(parts))
    say(f"words replaced: {made.replaced:.0%}, by {made.by}")
    say(f"texts: {made.out}")


def print_methods(
    result: dict[str, Any], allowed: Callable[[str, str], str], measured: Callable[[str], Iterable[object]]
) -> None:
    """The distillation methods. allowed: method, setting -> its range in words. measured: method -> lines."""
    for name, facts in result.items():
        say(f"{name}: {facts['paper']}")
        for stage, what in facts["stages"].items():
            say(f"    stage {stage}, {what['share']:.0%} of the run: {what['weights']}")
        listed = (f"{k}={v} [{allowed(name, k)}]" for k, v in facts["settings"].items())
        say("    settings: " + (", ".join(listed) or "none"))
        say(f"    the teacher runs: {facts['teacher']}")
        for one in measured(name):
            say(f"    kept: {one}")


def print_stored(root: Path, found: list["Entry"]) -> None:
    """Prints the content of the cache by teacher."""
    table = Table(title=str(root), title_justify="left")
    for name in ("teacher", "fingerprint", "field", "stored", "texts", "MB", "last used"):
        table.add_column(name, justify="right" if name in ("texts", "MB") else "left")
    for one in found:
        table.add_row(
            "(store.json is damaged)" if one.damaged else one.name,
            one.facts.teacher[:12], one.facts.field, one.facts.stored, f"{one.texts:,}",
            f"{one.bytes / 1e6:,.1f}", one.last_used,
        )  # fmt: skip
    Screen().print(table)
    say(f"{sum(one.bytes for one in found) / 1e6:,.1f} MB in all")


def print_build(result: "Built") -> None:
    """Prints the result of a cache build."""
    new, size = result["teacher_forwards"], result["bytes"] / 1e6
    say(f"{result['texts']:,} texts, {new:,} of them new; {size:,.1f} MB stored")
    for field, folder in result["folders"].items():
        say(f"{field}: {folder}")


def print_checked(files: int, damaged: list[str]) -> None:
    """The files of the cache that are damaged."""
    for path in damaged:
        say(f"damaged: {path}")
    say(f"{files} files, {len(damaged)} damaged")


def print_deleted(gone: list["Entry"], dry_run: bool) -> None:
    """Prints the deleted entries of the cache, or those that would be deleted."""
    for one in gone:
        say(f"{one.name or one.facts.teacher[:12]} {one.facts.field}: {one.bytes / 1e6:,.1f} MB")
    say(f"{sum(one.bytes for one in gone) / 1e6:,.1f} MB {'would be ' if dry_run else ''}deleted")
