"""A run's page: scores, training curves, and differences between student and teacher, in one self-contained HTML file.

The modules that draw are imported when a page is written: neither the command line nor training waits for them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from json import dumps
from pathlib import Path
from typing import Any

from contrastill.errors import UserError

__all__ = ["PAGE", "compare", "leave_report", "write_report"]

logger = logging.getLogger(__name__)

PAGE = "report.html"


def write_report(folder: str | Path) -> Path:
    """Writes `report.html` into a run's folder, from what lies there, and returns its path.

    Runs do so at their end. Written anew, it also shows what came later: exported bundles, `bench.json`.

    Raises:
        UserError: the folder holds no run, or cannot be written to.
    """
    from contrastill.report.page import run_page
    from contrastill.report.run import read_run

    return put(Path(folder).expanduser() / PAGE, run_page(read_run(folder)))


def compare(runs: Sequence[str | Path], out: str | Path = "comparison.html", to: str | Path | None = None) -> Path:
    """Writes one page of several runs' folders, side by side (of a single run: its report), and returns its path.

    to: the run to which the differences of the others are given, by default the first.

    Raises:
        UserError: no run was named, a folder holds none, `to` is not among them, or `out` cannot be written.
    """
    from contrastill.report.page import comparison_page, run_page
    from contrastill.report.run import read_run

    if not runs:
        raise UserError("expected the folder of at least one run, got none")
    places = [Path(folder).expanduser().resolve() for folder in runs]
    if to is not None and Path(to).expanduser().resolve() not in places:
        raise UserError(f"expected one of the runs to compare ({', '.join(map(str, runs))}) with --to, got {str(to)!r}")
    reference = 0 if to is None else places.index(Path(to).expanduser().resolve())
    found = [read_run(folder) for folder in runs]
    page = run_page(found[0]) if len(found) == 1 else comparison_page(found, reference)
    return put(Path(out).expanduser(), page)


def leave_report(folder: Path, evidence: Callable[[], dict[str, Any] | None] = lambda: None) -> None:
    """Leaves `evidence.json`, if the run has any, and `report.html` in a finished run's folder.

    The run is whole by then: whatever goes wrong here is logged as a warning.
    """

    def keep_evidence() -> None:
        if found := evidence():
            put(folder / "evidence.json", dumps(found, ensure_ascii=False) + "\n")

    for what, write in (("answers", keep_evidence), ("report", lambda: write_report(folder))):
        try:
            write()
        except Exception as error:
            logger.warning("the run is whole, but its %s could not be written: %s", what, error)
            logger.debug("while the %s was written", what, exc_info=True)


def put(path: Path, text: str) -> Path:
    """Writes a file whole, or leaves what was there."""
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; choose another --out")
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="replace")
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another --out") from None
    return path
