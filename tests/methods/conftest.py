from collections.abc import Callable
from typing import Any

import pytest
from method_rows import CASES, IDS

from contrastill.methods import METHODS, Method
from contrastill.tasks import Classification, Embedding, Regression


@pytest.fixture
def tiny_method(tiny_model) -> Callable[..., Method]:
    """`tiny_method("kd", {"alpha": 0.3}, classes=77)`: a student of 2 layers, width 16, a teacher of 4, width 24.

    For sentence embeddings both are bare encoders: what they say of a text is the mean of its tokens.
    """

    def build(
        name: str,
        settings: dict[str, Any] | None = None,
        *,
        family: str = "bert",
        classes: int = 3,
        student: dict[str, Any] | None = None,
        teacher: dict[str, Any] | None = None,
    ) -> Method:
        pupil = tiny_model(**({"family": family, "layers": 2, "width": 16, "classes": classes} | (student or {})))
        master = tiny_model(
            **({"family": family, "layers": 4, "width": 24, "classes": classes, "seed": 1} | (teacher or {}))
        )
        task = Classification([f"class {n}" for n in range(classes)]) if classes > 1 else Regression()
        if not METHODS[name].serves(task):
            pupil, master, task = pupil.base_model, master.base_model, Embedding()
        method = METHODS[name](pupil, master, task, **(settings or {}))
        return method.train()

    return build


@pytest.fixture(params=CASES, ids=IDS)
def case(request) -> tuple[str, dict[str, Any]]:
    """A method's name and settings, once for every row of the table."""
    return request.param
