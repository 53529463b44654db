"""Loading a tokenizer, a classifier, an encoder or a sentence-embedding model, whole or not at all."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.errors import UserError, first_line
from contrastill.loading.adapters import check_mergeable, is_adapter, merged, of_base
from contrastill.loading.place import Place, check_whole, locate
from contrastill.loading.weights import check_reads, check_values, check_whole_weights, encoder_inside

__all__ = [
    "default_prompt",
    "load_causal_model",
    "load_classifier",
    "load_config",
    "load_embedder",
    "load_encoder",
    "load_language_model",
    "load_like",
    "load_tokenizer",
    "new_weights",
]

logger = logging.getLogger(__name__)


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a Hub model or local folder.

    Raises:
        UserError: there is none, or it cannot pad.
    """
    place = locate(name)
    if is_adapter(place):
        check_mergeable(place)
        if place.file("tokenizer_config.json") is None:
            return load_tokenizer(of_base(place))
    try:
        tokenizer = AutoTokenizer.from_pretrained(place.source, revision=place.revision, trust_remote_code=False)
    except Exception as error:  # of any library that reads one
        check_whole(place)  # where there is no model either, that is what is said
        raise UserError(f"no tokenizer could be loaded from {name!r}: {first_line(error)}") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(f"no tokenizer could be loaded from {name!r}: no vocabulary; save it beside the model")
    if tokenizer.pad_token_id is None:
        raise UserError(f"the tokenizer of {name!r} has no padding token; set tokenizer.pad_token and save it again")
    return tokenizer


def load_config(place: Place) -> Any:
    """A model's config.

    Raises:
        UserError: there is none, or of an architecture that transformers does not have.
    """
    try:
        return AutoConfig.from_pretrained(place.source, revision=place.revision, trust_remote_code=False)
    except Exception as error:  # a config's own checks raise errors of their own kinds
        raise UserError(f"no model could be loaded from {place.name!r}: config.json: {first_line(error)}") from None


def load_classifier(name: str, *, tags: bool | None = None, **config: Any) -> PreTrainedModel:
    """A sequence classification (or regression) model; `config` (num_labels, id2label…) overrides its settings.

    tags: whether its head gives each token an answer (token classification); by default as the model's file says.
    With such settings a head that is missing, or made for other classes, is made new. Weights come from safetensors
    only, and no code from the model's repository is run. On CPU attention is computed eagerly, which trains small
    encoders at short lengths about twice as fast there.

    Raises:
        UserError: no such model; weights missing, cut off or corrupt; a model that is no text encoder, or, without
            `config`, one whose answer is not one class or one score.
    """
    tags = locate(name).tags if tags is None else tags
    kind = AutoModelForTokenClassification if tags else AutoModelForSequenceClassification
    model = opened(name, kind, **config)
    if not config:
        check_classes(name, model)
        check_reads(name, model, lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits)
    return model


def load_encoder(name: str) -> PreTrainedModel:
    """An encoder without a head. A pooler that its file lacks is made new, the same one in every load.

    Raises:
        UserError: as `load_classifier`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = opened(name, AutoModel)
    check_reads(name, model, lambda ids, mask: model(input_ids=ids, attention_mask=mask)[0])
    return model


def load_causal_model(name: str) -> PreTrainedModel:
    """An autoregressive language model, in float32.

    Raises:
        UserError: as `load_classifier`; or a model that does not predict the next token.
    """
    place = locate(name)
    base = locate(of_base(place)) if is_adapter(place) else place
    config = load_config(base)
    if not predicts_next(config):
        raise UserError(
            f"{name}: expected an autoregressive language model (Llama, Qwen, GPT-2 and their like), got one of "
            f"model_type {config.model_type!r}"
        )
    model = opened(name, AutoModelForCausalLM)
    check_reads(name, model, lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits)
    return model


def writes(name: str) -> bool:
    """Whether a model is an autoregressive language model by its config, and not the encoder of sentence embeddings."""
    place = locate(name)
    base = locate(of_base(place)) if is_adapter(place) else place
    if base.file("config.json") is None or place.file("modules.json") is not None:
        return False
    config = load_config(base)
    if not predicts_next(config):
        return False
    made: Any = AutoModelForCausalLM._model_mapping[type(config)]
    return made.__name__ in (config.architectures or ())


def predicts_next(config: Any) -> bool:
    """Whether models of this kind are autoregressive language models."""
    return type(config) in AutoModelForCausalLM._model_mapping and (
        type(config) not in AutoModelForMaskedLM._model_mapping
    )


def load_language_model(name: str) -> tuple[PreTrainedModel, bool]:
    """A model with its masked-LM head, and whether it has one.

    It has one if each weight of it comes from the file: config.json may name a head that the file lacks. Without one
    the model is good for its encoder alone.

    Raises:
        UserError: as `load_classifier`.
    """
    place = locate(name)
    if is_adapter(place) or type(load_config(place)) not in AutoModelForMaskedLM._model_mapping:
        return load_encoder(name), False
    model = whole(place, AutoModelForMaskedLM, new_head=True)
    check_values(name, model)
    return model, not new_weights(model)


def opened(name: str, kind: Any, **config: Any) -> PreTrainedModel:
    """A model with valid weights; an adapter is merged into its base model."""
    place = locate(name)
    if is_adapter(place):
        base = of_base(place)
        model = merged(place, lambda **given: whole(locate(base), kind, **given), config)
    else:
        model = whole(place, kind, **config)
    check_values(name, model)
    return model


def whole(place: Place, kind: Any, *, new_head: bool | None = None, **config: Any) -> PreTrainedModel:
    """A model whose file had every weight of the encoder.

    new_head: whether a head that the file lacks is made new; by default where `config` is given.
    """
    check_whole(place)
    name, tags = place.name, kind is AutoModelForTokenClassification
    classifier = tags or kind is AutoModelForSequenceClassification
    what = "token classification model" if tags else "text classification model" if classifier else "encoder"
    what = {AutoModelForMaskedLM: "masked language model", AutoModelForCausalLM: "language model"}.get(kind, what)
    if (config.get("config") or load_config(place)).is_encoder_decoder:
        raise UserError(f"no {what} could be loaded from {name!r}: it is an encoder and a decoder; give an encoder")
    eager = classifier and not torch.cuda.is_available()
    try:
        with no_report():
            model, report = kind.from_pretrained(
                place.source,
                revision=place.revision,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are looked at below, with their names
                **({"attn_implementation": "eager"} if eager else {}),
                **config,
            )
    except SafetensorError as error:
        raise UserError(f"the weights of {name!r} are damaged ({error}); fetch or save them again") from None
    except Exception as error:  # an architecture's own, of a config that makes no sense
        raise UserError(f"no {what} could be loaded from {name!r}: {first_line(error)}") from None
    check_whole_weights(
        name, model, report, new_head=bool(config) if new_head is None else new_head, head=kind is not AutoModel
    )
    vars(model)["new_weights"] = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    return model


@contextmanager
def no_report() -> Iterator[None]:
    """Keeps transformers' report of missing weights off the screen: they are checked here, and a new head is wanted.

    A level for that report makes transformers tell of its plans for several GPUs too.
    """
    loggers = [logging.getLogger(f"transformers.{name}") for name in ("modeling_utils", "distributed.tensor_parallel")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def attend(model: PreTrainedModel, how: str) -> None:
    """Sets the implementation of attention ("eager", "sdpa"); a family that has only its own (MPNet) keeps it."""
    with no_report(), suppress(ValueError):
        model.set_attn_implementation(how)


def new_weights(model: PreTrainedModel) -> set[str]:
    """Names of a model's weights that came from no file: those of a head that was made new."""
    return set(vars(model).get("new_weights", ()))


def load_like(kind: type[PreTrainedModel], name: str, config: Any, attention: str | None) -> PreTrainedModel:
    """A model of this class, whose encoder comes from `name`, and its head too if it fits `config`.

    attention: its implementation in transformers.

    Raises:
        UserError: as `load_classifier`.
    """
    place = locate(name)
    if is_adapter(place):
        check_mergeable(place, embeds=True)
    made = whole(place, kind, config=config, attn_implementation=attention)
    check_values(name, made)
    return made


def check_classes(name: str, model: PreTrainedModel) -> None:
    """Raises a UserError unless a classifier's answer is a class or labels, of distinct names, or one score."""
    config: Any = model.config
    count, names = int(config.num_labels), config.id2label
    problem = config.problem_type
    if problem == "regression" and count > 1:
        raise UserError(
            f"{name}: expected a model that gives classes, labels or one score, got a {problem} with {count} outputs; "
            "it can be the start of a new classifier (contrastill finetune)"
        )
    if sorted(names) != list(range(count)):
        raise UserError(
            f"{name}: expected id2label in config.json to name the classes 0 to {count - 1}, got {list(names)[:8]}"
        )
    said = [str(names[n]) for n in range(count)]
    if twice := next((one for n, one in enumerate(said) if one in said[:n]), None):
        raise UserError(
            f"{name}: id2label in config.json names two classes {twice[:80]!r}; give each a name of its own"
        )


def load_embedder(name: str) -> Any:
    """A sentence-embedding model, in float32; a bare encoder is taken with the mean of its tokens.

    Its modules answer as its `encode` does: what `encode` does around them (`truncate_dim`, tokens of the default
    prompt that are not pooled) is done whenever they are called.

    Raises:
        UserError: sentence-transformers is not installed; or as `load_classifier`.
    """
    place = locate(name)
    if is_adapter(place):
        check_mergeable(place, embeds=True)
    check_whole(place)
    check_embeds(place)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError(
            f"{name!r} is a sentence-embedding model: pip install 'contrastill[embeddings]' to read it"
        ) from None
    try:
        model = SentenceTransformer(
            place.source,
            revision=place.revision,
            device="cpu",
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "ignore_mismatched_sizes": True},  # looked at below, with names
        ).float()
    except SafetensorError as error:
        raise UserError(f"the weights of {name!r} are damaged ({error}); fetch or save them again") from None
    except Exception as error:  # of any of its modules
        raise UserError(f"no sentence-embedding model could be loaded from {name!r}: {first_line(error)}") from None
    answer_as_encode(model)
    check_encoder_inside(place, model)
    return model


def check_embeds(place: Place) -> None:
    """Raises a UserError if a model is a classifier, or another kind of sentence-transformers'."""
    kind = str(place.read("config_sentence_transformers.json").get("model_type") or "SentenceTransformer")
    if kind != "SentenceTransformer" or (place.classifies and not place.embeds):
        got = kind if kind != "SentenceTransformer" else "classifier"
        raise UserError(
            f"{place.name}: expected a sentence-embedding model, got a {got[:80]}, which gives no vectors; give "
            "its encoder, or use a command for classifiers"
        )


def check_encoder_inside(place: Place, model: Any) -> None:
    """As `whole` for the transformer of a sentence-embedding model, whose library does not say what was missing.

    The names are compared on the meta device: no weight is read a second time.
    """
    encoder = encoder_inside(model)
    if encoder is None:
        return
    result: Any = type(encoder).from_pretrained(
        place.source,
        config=encoder.config,
        subfolder=place.subfolder,
        revision=place.revision or "main",
        trust_remote_code=False,
        use_safetensors=True,
        device_map="meta",
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    check_whole_weights(place.name, encoder, result[1], new_head=False, head=False)
    check_values(place.name, model)

    def vectors(ids: Tensor, mask: Tensor) -> Tensor:
        return model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]

    check_reads(place.name, model, vectors)


def answer_as_encode(model: Any) -> None:
    """Lets a sentence-embedding model's modules do what its `encode` does around them."""
    if model.truncate_dim is not None:

        def truncate(module: nn.Module, args: Any, features: Any) -> Any:
            features["sentence_embedding"] = features["sentence_embedding"][..., : model.truncate_dim]
            return features

        model.register_forward_hook(truncate)
    prompt = default_prompt(model)
    if prompt and any(getattr(module, "include_prompt", True) is False for module in model):
        length = model[0].preprocess(["a"], prompt=prompt).get("prompt_length")

        def leave_out_prompt(module: nn.Module, args: Any) -> Any:
            return ({"prompt_length": length, **args[0]}, *args[1:])

        model.register_forward_pre_hook(leave_out_prompt)


def default_prompt(model: Any) -> str:
    """The text that a sentence-embedding model puts before each of its inputs; "": none."""
    return str((model.prompts or {}).get(model.default_prompt_name) or "")
