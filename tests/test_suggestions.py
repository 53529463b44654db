"""A name that was misspelt is answered with the nearest one, wherever names are given."""

from collections.abc import Callable

import pytest
from transformers import BertConfig

from contrastill import Distillation, Finetuning, UserError, load_task
from contrastill.methods import METHODS, method_class, read_settings
from contrastill.students.shape import parse_shape
from contrastill.tasks import labelled_class

ROWS = [{"text": f"t {n}", "label": "ab"[n % 2]} for n in range(20)]
GIVEN = {"teacher": "t", "data": "d", "out": "o"}
MISSPELT: dict[str, tuple[Callable[[], object], str]] = {
    "a setting": (lambda: Distillation.given({**GIVEN, "lerning_rate": 1}), "learning_rate"),
    "a choice": (lambda: Finetuning(model="m", data="d", out="o", schedule="lineer"), "linear"),
    "a choice, by case": (lambda: Finetuning(model="m", data="d", out="o", precision="FP32"), "fp32"),
    "a method": (lambda: method_class("lrc-bert"), "lrc_bert"),
    "a method's setting": (lambda: read_settings("kd", {"temprature": 2}), "temperature"),
    "a task": (lambda: labelled_class("clasification"), "classification"),
    "a student's shape": (lambda: parse_shape("4l-312", BertConfig()), "4L-312"),
    "a metric": (lambda: load_task(ROWS, metric="acuracy"), "accuracy"),
    "a column": (lambda: load_task(ROWS, text="txt", label="label"), "text"),
}


@pytest.mark.parametrize("name", MISSPELT)
def test_the_nearest_name_is_suggested(name: str) -> None:
    call, meant = MISSPELT[name]
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        call()


def test_what_is_like_nothing_known_gets_no_suggestion() -> None:
    with pytest.raises(UserError) as said:
        method_class("zzzzzz")
    assert "did you mean" not in str(said.value)
    assert all(each in str(said.value) for each in METHODS)
