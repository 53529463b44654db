"""The real GLUE files, where they are: counts and first rows."""

import os
from pathlib import Path

import pytest

from contrastill.data.load import load_task
from contrastill.data.schema import GLUE, glue_task

DATA = Path(os.environ.get("CONTRASTILL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))

# Train, dev, test rows. CoLA, RTE and QNLI have test files without labels.
ROWS = {
    "CoLA": (8551, 1043, None),
    "SST-2": (67349, 872, 1821),
    "MRPC": (3668, 408, 1725),
    "STS-B": (5749, 1500, 1379),
    "RTE": (2490, 277, None),
    "QNLI": (8999, 5463, None),
    "QQP": (31869, 1000, None),
    "MNLI": (8999, 1000, None),
}


def test_every_glue_task_has_its_counts_here():
    assert [glue_task(name) for name in ROWS] == list(GLUE.values())


@pytest.mark.parametrize("name", ROWS)
def test_glue_files_load_whole(name):
    if not (DATA / "glue" / name).is_dir():
        pytest.skip(f"needs GLUE's files in {DATA / 'glue'} (or where CONTRASTILL_DATA points)")
    data = load_task(DATA / "glue" / name)
    assert data.schema == glue_task(name)
    assert tuple(data.splits[s].num_rows if s in data.splits else None for s in ("train", "dev", "test")) == ROWS[name]
    assert "rows left out" not in data.decisions or "broken" not in data.decisions["rows left out"]
    for split in data.splits.values():
        values = set(split["label"])
        assert (
            values == set(range(len(data.schema.labels))) if data.schema.labels else 0 <= min(values) < max(values) <= 5
        )
