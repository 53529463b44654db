"""LoRA and other adapters of peft: merged into the model they were trained on, where peft is installed."""

import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from contrastill.errors import UserError, first_line
from contrastill.loading.place import Place

__all__ = ["check_mergeable", "is_adapter", "merged", "of_base"]

FILE, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADS = ("classifier.weight", "score.weight", "classifier.out_proj.weight")


def is_adapter(place: Place) -> bool:
    return place.file(FILE) is not None


def of_base(place: Place) -> str:
    """The model that an adapter was trained on. Raises a UserError if the adapter does not say."""
    base = place.read(FILE).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise UserError(f"{place.name}: {FILE} names no base model (base_model_name_or_path); merge the adapter first")
    return base


def check_mergeable(place: Place, embeds: bool = False) -> None:
    """Raises a UserError with the lines that merge an adapter where it is not merged here: if peft is not installed, or
    it is one of a sentence-embedding model (`embeds`)."""
    if embeds or find_spec("peft") is None:
        raise UserError(by_hand(place, hint=not embeds))


def merged(place: Place, load: Callable[..., PreTrainedModel], config: Mapping[str, Any]) -> PreTrainedModel:
    """The base model with the adapter's weights added to its own.

    load: loads the base model with such settings. config: the settings asked for; without any, the classes are as many
    as the adapter's head has.

    Raises:
        UserError: peft is not installed, the adapter's weights are not to be had, or it does not fit its base model, or
            its head has other classes than asked for.
    """
    check_mergeable(place)
    from peft import PeftModel

    weights = place.file(WEIGHTS)
    if weights is None:
        raise UserError(
            f"{place.name}: expected the adapter's weights in {WEIGHTS}, found none; save it with peft again"
        )
    head = classes_of(place, str(weights))
    if head and config.get("num_labels", head) != head:
        raise UserError(
            f"{place.name}: expected an adapter whose head has the {config['num_labels']} classes of the data, got one "
            f"of {head}; merge it and start from the merged model, which gets a new head"
        )
    base = load(**(dict(config) or ({"num_labels": head} if head else {})))
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = PeftModel.from_pretrained(base, str(weights.parent)).merge_and_unload()
    except Exception as error:  # of peft, of an adapter for another model
        raise UserError(f"{place.name}: the adapter does not fit {of_base(place)!r}: {first_line(error)}") from None
    if lost := [str(one.message) for one in said if "missing adapter keys" in str(one.message)]:
        raise UserError(f"{place.name}: the adapter lacks weights for {of_base(place)!r}: {lost[0][:300]}")
    if head:
        vars(model)["new_weights"] = set()  # the head is the adapter's
    return model.eval().requires_grad_(True)


def classes_of(place: Place, weights: str) -> int | None:
    """The number of classes of the adapter's own head; None: it has no head."""
    try:
        with safe_open(weights, "pt") as file:
            heads = [key for key in file.keys() if key.endswith(HEADS)]  # noqa: SIM118 (no mapping)
            return int(file.get_slice(heads[0]).get_shape()[0]) if heads else None
    except SafetensorError as error:
        raise UserError(f"the weights of {place.name!r} are damaged ({error}); fetch or save them again") from None


def by_hand(place: Place, hint: bool) -> str:
    task = str(place.read(FILE).get("task_type"))
    kind = "AutoPeftModelForSequenceClassification" if task == "SEQ_CLS" else "AutoPeftModelForFeatureExtraction"
    install = "; pip install 'contrastill[adapters]' to have it merged when it is loaded" if hint else ""
    return (
        f"{place.name}: expected a whole model, got an adapter (LoRA) of {of_base(place)!r}{install}. To merge it:\n"
        f"  from peft import {kind} as Model\n"
        f"  Model.from_pretrained({str(place.source)!r}).merge_and_unload().save_pretrained('merged')\n"
        "and save the tokenizer there too"
    )
