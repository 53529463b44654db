"""A distillation method of your own, without a fork: python examples/03_own_method.py TEACHER DATA OUT

A method is a class: which outputs it needs, its stages (the weight of each term), and its terms. Constructor arguments
after the star are its settings (`--set temperature=4`, with types and ranges from their annotations).
"""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

import contrastill
from contrastill import Encoding, Method, Stage, losses
from contrastill.methods.settings import Temperature
from contrastill.tasks import Task


class LastLayer(Method):
    """The teacher's last layer through a projection, and its soft labels.

    temperature: of the soft labels.
    """

    name = "last_layer"
    needs = {"hidden", "logits"}
    stages = (Stage("layer", {"layer": 1.0}, share=0.3), Stage("all", {"layer": 1.0, "kd": 1.0, "hard": 1.0}))

    def __init__(self, student: PreTrainedModel, teacher: Any, task: Task, *, temperature: Temperature = 2.0) -> None:
        super().__init__(student, teacher, task)
        self.temperature = temperature
        self.project = self.bridge((self.student.depth, self.teacher.depth))

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            "layer": losses.hidden_mse(self.project(student.hidden[-1]), teacher.hidden[-1], teacher.mask),
            "kd": self.kd(student, teacher, self.temperature),
            "hard": self.hard(student, batch),
        }


if __name__ == "__main__":
    run = contrastill.distill(
        method=LastLayer,  # on the command line: --method own_method:LastLayer, of own_method.py in this folder
        set={"temperature": 4},
        teacher=sys.argv[1],
        data=sys.argv[2],
        out=sys.argv[3],
        student="2L",
        epochs=2,
    )
    print(run.metrics["student"])
