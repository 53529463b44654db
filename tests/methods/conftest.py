from collections.abc import Callable
from typing import Any

import pytest
import torch
from method_rows import CASES, IDS, OF_TEXTS
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.methods import METHODS, Method
from contrastill.tasks import BareEncoder, Classification, Embedding, MultiLabel, Pairs, Regression
from contrastill.teachers import WordsHead

MASK = 4


@pytest.fixture
def tiny_words(tiny_model) -> Callable[..., BareEncoder]:
    """A task of masked words: the head of a language model of this family and width, and the words of `tiny_batch`."""
    return lambda **shape: BareEncoder(WordsHead(tiny_model(words=True, seed=1, **shape)), MASK, range(MASK + 1, 50))


@pytest.fixture
def tiny_method(tiny_model, tiny_words) -> Callable[..., Method]:
    """`tiny_method("kd", {"alpha": 0.3}, classes=77)`: a student of 2 layers, width 16, a teacher of 4, width 24.

    For sentence embeddings both are bare encoders: what they say of a text is the mean of its tokens.
    """

    def build(
        name: str,
        settings: dict[str, Any] | None = None,
        *,
        family: str = "bert",
        classes: int = 3,
        multilabel: bool = False,
        student: dict[str, Any] | None = None,
        teacher: dict[str, Any] | None = None,
    ) -> Method:
        classes = fewest(name, classes)
        pupil = tiny_model(**({"family": family, "layers": 2, "width": 16, "classes": classes} | (student or {})))
        master = tiny_model(
            **({"family": family, "layers": 4, "width": 24, "classes": classes, "seed": 1} | (teacher or {}))
        )
        names = [f"class {n}" for n in range(classes)]
        task = MultiLabel(names) if multilabel else Classification(names) if classes > 1 else Regression()
        if not METHODS[name].serves(task):
            task = Pairs(columns=2) if METHODS[name].per_group else Embedding()
            if METHODS[name].guesses_words:
                task = tiny_words(family=master.config.model_type, width=master.config.hidden_size)
            pupil, master = pupil.base_model, master.base_model
        settings = settings or {}
        if name == "pea_kd" and not halves_can_share(pupil):
            settings = {"share": False, **settings}
        method = METHODS[name](pupil, master, task, **settings)
        return method.train()

    return build


def fewest(name: str | None, classes: int) -> int:
    """As many classes, or the fewest that the method takes."""
    return max(classes, {"dist": 3, "pea_kd": 2}.get(name or "", 1))


def halves_can_share(model: PreTrainedModel) -> bool:
    return model.config.num_hidden_layers % 2 == 0 and model.config.model_type != "modernbert"


class Groups(dict[str, Tensor]):
    """A batch of texts that belong together: all anchors, then all positives."""

    columns = 2


@pytest.fixture
def tiny_batch(
    tiny_batch: Callable[..., dict[str, Tensor]], request: pytest.FixtureRequest
) -> Callable[..., dict[str, Tensor]]:
    """As everywhere; for a method that compares texts that belong together, `rows` of them."""

    def groups(**options: Any) -> Groups:
        anchors, positives = tiny_batch(**options), tiny_batch(**options | {"seed": options.get("seed", 0) + 50})
        return Groups({name: torch.cat([anchors[name], positives[name]]) for name in anchors})

    def with_classes(classes: int = 3, **options: Any) -> dict[str, Tensor]:
        return tiny_batch(classes=fewest(name, classes), **options)

    names = [request.getfixturevalue(each) for each in ("case", "plain", "name") if each in request.fixturenames]
    name = next((each if isinstance(each, str) else each[0] for each in names), None)
    return groups if name in METHODS and METHODS[name].per_group else with_classes


@pytest.fixture(params=OF_TEXTS)
def plain(request) -> tuple[str, dict[str, Any]]:
    """A method's name, with its defaults: what is tried with every family or shape need not be with every setting."""
    return request.param, {}


@pytest.fixture(params=CASES, ids=IDS)
def case(request) -> tuple[str, dict[str, Any]]:
    """A method's name and settings, once for every row of the table."""
    return request.param
