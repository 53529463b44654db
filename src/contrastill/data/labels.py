"""The class ids of the data, put into the order of the model's classes."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from contrastill.data.cells import some
from contrastill.data.classes import matching, unnamed
from contrastill.data.load import TaskData
from contrastill.errors import UserError

logger = logging.getLogger(__name__)

__all__ = ["align_labels"]


def align_labels(data: TaskData, names: Sequence[str]) -> TaskData:
    """The data with its class ids in the order of `names`, the classes of a model in id order.

    Names are matched as `matching` does. A model whose classes have no names (LABEL_0, LABEL_1, …) has ids only: labels
    0, 1, … are taken for these ids, any others to stand in the model's order, which is logged as a warning. Of entities
    the names are types, of which the model may have more than the data.

    Raises:
        UserError: other classes, or another number of them.
    """
    if data.schema.kind == "regression":
        if len(names) != 1:
            raise UserError(
                f"{data.schema.name} has scores to regress on (1 output), the model has {len(names)} classes: "
                f"{some(names)}; use a regression model, or say kind='classification' if the labels are classes"
            )
        return data
    ours = data.schema.labels
    if data.schema.kind == "tagging":
        return align_types(data, names)
    if unnamed(names):
        ids = {str(n): n for n in range(len(names))}
        if set(ours) <= set(ids) and list(ours) == sorted(ours, key=int):
            how = f"labels are the ids of its {len(names)} unnamed classes"
            return in_order(data, tuple(ids), [ids[name] for name in ours], how)
    if len(names) == 1:
        raise UserError(
            f"{data.schema.name} has classes ({some(ours)}), the model gives scores; pass --task regression if these "
            "are scores too, or use a model with classes"
        )
    if len(names) != len(ours):
        raise UserError(
            f"{data.schema.name} has {len(ours)} classes ({some(ours)}), the model has {len(names)} ({some(names)}); "
            "use a model fine-tuned on this task"
        )
    if unnamed(names):
        how = f"assumed to be the data's ({some(ours)}), as its classes have no names ({names[0]}, …)"
        logger.warning(
            "%s: the order of the model's classes is %s: scores are wrong if it is another; name them in its "
            "config.json (id2label) to be sure",
            data.schema.name,
            how,
        )
        return in_order(data, ours, list(range(len(ours))), how)
    place = matching(ours, names)
    if len(set(place.values())) < len(names):
        lacking = [name for name in ours if name not in place]
        spare = [name for n, name in enumerate(names) if n not in place.values()]
        raise UserError(
            f"{data.schema.name} and the model disagree on class names: {some(lacking)} of the data, {some(spare)} of "
            "the model are not in the other; rename the classes in one of them"
        )
    how = "the data's"
    if list(names) != list(ours):
        how = f"{some(names)}, matched by name"
        logger.info("%s: the order of the model's classes is %s", data.schema.name, how)
    return in_order(data, tuple(names), [place[name] for name in ours], how)


def align_types(data: TaskData, names: Sequence[str]) -> TaskData:
    """The data with the ids of a model's types of entities, of which it may have more."""
    ours = data.schema.labels
    place = matching(ours, names)
    if lacking := [name for name in ours if name not in place]:
        raise UserError(
            f"{data.schema.name} has entities of types that the model does not know: {some(lacking)}; it knows "
            f"{some(names)}. Use a model that was trained on these types, or remove or rename them in the data"
        )
    if list(names) == list(ours):
        return in_order(data, ours, list(range(len(ours))), "the data's")
    how = f"{some(names)}, matched by name"
    if spare := [name for n, name in enumerate(names) if n not in place.values()]:
        how += f"; {some(spare)} of the model are not in the data"
    logger.info("%s: the order of the model's types is %s", data.schema.name, how)
    return in_order(data, tuple(names), [place[name] for name in ours], how)


def in_order(data: TaskData, names: tuple[str, ...], new: Sequence[int], how: str) -> TaskData:
    """The data with each id n replaced by new[n], for the classes `names`; `how` is recorded as a decision."""

    def moved(labels: list[Any]) -> dict[str, list[Any]]:
        if data.schema.kind == "multilabel":
            back = [list(new).index(n) for n in range(len(new))]
            return {"label": [[row[n] for n in back] for row in labels]}
        if data.schema.kind == "tagging":
            return {"label": [[new[x] if n % 3 == 2 else x for n, x in enumerate(row)] for row in labels]}
        return {"label": [n if n < 0 else new[n] for n in labels]}

    splits = data.splits
    if list(new) != list(range(len(new))):
        splits = {
            name: split.map(moved, input_columns="label", batched=True, keep_in_memory=True)
            for name, split in splits.items()
        }
    schema = dataclasses.replace(data.schema, labels=names)
    what = "types" if data.schema.kind == "tagging" else "classes"
    decisions = {**data.decisions, f"order of the model's {what}": how}
    return dataclasses.replace(data, schema=schema, decisions=decisions, **splits)
