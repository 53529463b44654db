"""The records of a run, run.json and metrics.json, which are read and written here alone."""

from contrastill.results.record import (
    CARD,
    PLACES,
    PROMPT_KINDS,
    RunRecord,
    check_sealed,
    located,
    read_metrics,
    read_object,
    write_text,
)
from contrastill.results.scores import (
    HELD_OUT_PAIRS,
    LESS_IS_BETTER,
    YARDSTICKS,
    RunResult,
    Score,
    Scores,
    Split,
    number,
)
from contrastill.results.table import ResultTable, result_table

__all__ = [
    "CARD",
    "HELD_OUT_PAIRS",
    "LESS_IS_BETTER",
    "PLACES",
    "PROMPT_KINDS",
    "YARDSTICKS",
    "ResultTable",
    "RunRecord",
    "RunResult",
    "Score",
    "Scores",
    "Split",
    "check_sealed",
    "located",
    "number",
    "read_metrics",
    "read_object",
    "result_table",
    "write_text",
]
