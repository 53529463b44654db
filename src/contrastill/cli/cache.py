"""Commands on stored teacher outputs: cache build, list, verify, prune."""

from pathlib import Path
from typing import Annotated, Any

import typer

from contrastill.cli.options import AS_JSON, Json, Kind, command, settings_of
from contrastill.cli.show import print_build, print_checked, print_deleted, print_stored, reporting
from contrastill.ranges import Range, checked
from contrastill.settings import CacheBuild

__all__ = ["register"]

BUILD = """Run a teacher over a corpus once, and store its outputs for every text.

    `contrastill distill` fills the cache itself; use this command for large or shared corpora. Stored outputs are not
    computed again: to continue an interrupted build, run the same command. Under torchrun, several processes share the
    work.

    Examples:

    contrastill cache build --teacher sentence-transformers/all-mpnet-base-v2 --texts sentences.txt.xz

    contrastill cache build --teacher ./teacher --texts queries.csv --text query --fields logits --fields layer-6-mean
    """
Root = Annotated[
    Path | None, typer.Option("--cache", help="Folder of the cache ($CONTRASTILL_CACHE, else ~/.cache/contrastill).")
]


def build(as_json: bool, **options: Any) -> None:
    with reporting(as_json) as show:
        chosen = settings_of(CacheBuild, options)
        from contrastill.training import build_cache

        result = build_cache(**vars(chosen))
        show(result, lambda: print_build(result))


def list_(cache: Root = None, as_json: Json = False) -> None:
    """List what is stored, teacher by teacher.

    Example: contrastill cache list
    """
    with reporting(as_json) as show:
        from contrastill.teachers import cache_root, entries

        root = cache_root(cache)
        found = list(entries(root))
        show({"root": str(root), "entries": [one.to_json() for one in found]}, lambda: print_stored(root, found))


def verify(cache: Root = None, as_json: Json = False) -> None:
    """Read every stored file whole and check it; exit code 1 if one is damaged. Nothing is changed.

    A damaged file does no harm: the next run that opens it removes it and computes its texts again.

    Example: contrastill cache verify
    """
    with reporting(as_json) as show:
        from contrastill.teachers import cache_root
        from contrastill.teachers import verify as check

        files = list(check(cache_root(cache)))
        damaged = [str(path) for path, whole in files if not whole]
        show({"files": len(files), "damaged": damaged}, lambda: print_checked(len(files), damaged))
        if damaged:
            raise typer.Exit(1)


def prune(
    cache: Root = None,
    unused_days: Annotated[
        float | None, typer.Option(help="Delete outputs not used for this many days; 0: everything. [0 <= x <= 36,500]")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Only outputs of this teacher: its name, or the first characters of its fingerprint."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only list what would be deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Delete stored teacher outputs.

    Examples:

    contrastill cache prune --unused-days 30

    contrastill cache prune --teacher runs/teacher/model --dry-run
    """
    with reporting(as_json) as show:
        from contrastill.teachers import cache_root
        from contrastill.teachers import prune as delete

        days = checked(unused_days, float | None, Range(at_least=0, at_most=36_500, unit="days"), name="--unused-days")
        gone = delete(cache_root(cache), unused_days=days, teacher=teacher, dry_run=dry_run)
        show({"deleted": [one.to_json() for one in gone], "dry_run": dry_run}, lambda: print_deleted(gone, dry_run))


def register(app: typer.Typer) -> None:
    caches = typer.Typer(no_args_is_help=True, help="Stored teacher outputs: fill, list, check and empty the cache.")
    app.add_typer(caches, name="cache")
    command(caches, build, Kind(CacheBuild, BUILD), AS_JSON)
    caches.command("list")(list_)
    caches.command("verify")(verify)
    caches.command("prune")(prune)
