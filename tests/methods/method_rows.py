"""The one table of methods under test: registry name -> the settings each is tested with."""

from typing import Any

from contrastill.methods import METHODS, Method
from contrastill.tasks import Language

OF_TEXTS: dict[str, type[Method]] = {name: cls for name, cls in METHODS.items() if not cls.serves(Language)}
"""Methods that compare what encoders make of texts; those of language models are tested in tests/language."""
ROWS: dict[str, list[dict[str, Any]]] = {
    "lrc_bert": [
        {},
        {"granularity": "cls"},
        {"granularity": "mean"},
        {"negatives": 2},
        {"queue": 8},
        {"layer_map": "last", "temperature": 2.0},
        {"compare": "hidden", "soft": 0.0, "hard": 0.5},
        {"compare": "centred", "contrast": 2.0},
        {"contrast": 0.0},
    ],
    "kd": [{}, {"temperature": 4.0, "alpha": 0.9}],
    "finetune": [{}],
    "pkd": [{}, {"layer_map": "last", "temperature": 10.0, "alpha": 0.2, "beta": 10.0}],
    "tinybert": [{}, {"layer_map": "skip", "temperature": 2.0}, {"relative": True}],
    "minilm": [{}, {"heads": 4, "teacher_layer": 2}, {"temperature": 4.0, "alpha": 0.9}],
    "dist": [{}, {"temperature": 2.0, "beta": 3.0, "gamma": 0.5}],
    "mixkd": [{}, {"beta": 0.4, "labels": 0.0, "mixed": 2.0, "temperature": 1.0}],
    "pea_kd": [
        {},
        {"confident_right": 0.4, "confident_wrong": 0.35, "temperature": 2.0, "alpha": 0.2, "beta": 10.0},
        {"share": False, "layer_map": "last"},
    ],
    "comparative": [{}, {"relative": 0.5, "labels": 0.0}],
    "rrd_task": [
        {},
        {"pool": "cls", "queue": 8},
        {"queue": 0, "temperature": 0.2, "teacher_temperature": 0.1, "kd_temperature": 2.0},
        {"rrd": 3.0, "kd": 0.0, "hard": 0.5},
    ],
    "distilbert": [
        {},
        {"temperature": 1.0, "words": 1.0, "mlm": 0.5, "cosine": 3.0},
        {"masked": 0.4},
    ],
    "disco": [{}, {"queue": 8}, {"queue": 0, "temperature": 0.4}, {"temperature": 0.5, "least_temperature": 0.5}],
    "mse_kd": [{}],
    "congen": [{}, {"queue": 8}, {"queue": 0, "temperature": 0.1, "teacher_temperature": 0.2}],
    "rrd": [{}, {"queue": 8}, {"queue": 0, "temperature": 0.2, "teacher_temperature": 0.1}],
    "leaf": [{}],
    "simcse": [{}, {"queue": 8}, {"scale": 5.0, "anchor_weight": 3.0, "anchor_temperature": 0.2}],
    "distillcse": [
        {},
        {"queue": 8, "group": 0.5},
        {"scale": 5.0, "anchor_weight": 3.0, "anchor_temperature": 0.2, "teacher_temperature": 0.1, "group": 0.0},
    ],
}


def row_id(name: str, settings: dict[str, Any]) -> str:
    return "-".join([name, *(f"{key}={value}" for key, value in settings.items())])


CASES = [(name, settings) for name, rows in ROWS.items() for settings in rows]
IDS = [row_id(name, settings) for name, settings in CASES]
