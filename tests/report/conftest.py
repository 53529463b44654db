"""The folder of a run, written when asked for."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_once import drawn_once
from run_folders import METRICS, RECORD, log_rows

from contrastill.report import charts

DRAW = {name: getattr(charts, name) for name in ("lines", "tradeoff", "histogram")}


@pytest.fixture(scope="module", autouse=True)
def equal_charts_are_drawn_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, draw in DRAW.items():
            patch.setattr(charts, name, drawn_once(draw))
        yield


@pytest.fixture
def drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, draw in DRAW.items():
        monkeypatch.setattr(charts, name, draw)


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run's folder: a distillation of three classes, unless told otherwise; None leaves a file out."""

    def write(
        name: str = "student",
        record: dict[str, Any] | None = RECORD,
        metrics: dict[str, Any] | None = METRICS,
        log: list[dict[str, Any]] | None = None,
        evidence: dict[str, Any] | None = None,
        **files: dict[str, Any],
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        log = log_rows() if log is None else log
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
        wanted = {"run": record, "metrics": metrics, "evidence": evidence, **files}
        for stem, content in wanted.items():
            if content is not None:
                (folder / f"{stem}.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return write
