"""The one door for models and tokenizers: each command opens what it needs here, and refuses it in the same words."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.errors import UserError

__all__ = [
    "check_length",
    "existing",
    "first_line",
    "load_classifier",
    "load_embedder",
    "load_encoder",
    "load_tokenizer",
    "model_folder",
    "positions",
]


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a Hub model or local folder.

    Raises:
        UserError: there is none, or it cannot pad.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(existing(name))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"no tokenizer could be loaded from {name!r}: {first_line(error)}") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(f"no tokenizer could be loaded from {name!r}: no vocabulary; save it beside the model")
    if tokenizer.pad_token_id is None:
        raise UserError(f"the tokenizer of {name!r} has no padding token; set tokenizer.pad_token and save it again")
    return tokenizer


def load_classifier(name: str, **config: Any) -> PreTrainedModel:
    """A sequence classification (or regression) model; `config` (num_labels, id2label…) overrides its settings.

    Weights come from safetensors only, and no code from the model's repository is run. On CPU attention is computed
    eagerly, which trains small encoders at short lengths about twice as fast there.

    Raises:
        UserError: no such model, weights cut off or corrupt, or a model that is no text encoder.
    """
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            existing(name),
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=None if torch.cuda.is_available() else "eager",
            output_loading_info=True,
            **config,
        )
    except SafetensorError as error:
        raise UserError(f"the weights of {name!r} are damaged ({error}); fetch or save them again") from None
    except RuntimeError as error:
        if "size mismatch" not in str(error) and "mismatched" not in str(error):
            raise
        raise UserError(f"the weights of {name!r} do not fit its config.json: {first_line(error)}") from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no text classification model could be loaded from {name!r}: {first_line(error)}") from None
    if not config and (missing := sorted(report["missing_keys"])):
        raise UserError(
            f"the weights of {name!r} lack {len(missing)} tensors that the model needs ({', '.join(missing[:3])}…); "
            "give a whole fine-tuned classifier (contrastill finetune makes one of a bare encoder)"
        )
    if wrong := [key for key, value in model.named_parameters() if not value.isfinite().all()]:
        raise UserError(f"the weights of {name!r} are not finite (NaN or infinity in {wrong[0]}); train it again")
    return model


def existing(name: str) -> str:
    """The name, unless it is plainly a path and nothing is there."""
    path = Path(name).expanduser()
    if not path.exists() and (path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1):
        raise UserError(f"expected a model folder or Hub name, found nothing at {name!r}")
    return str(path) if path.exists() else name


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def load_embedder(name: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError(
            f"{name!r} is a sentence-embedding model: pip install 'contrastill[embeddings]' to read it"
        ) from None
    try:
        return SentenceTransformer(existing(name), device="cpu", model_kwargs={"use_safetensors": True})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no sentence-embedding model could be loaded from {name!r}: {first_line(error)}") from None


def load_encoder(name: str) -> PreTrainedModel:
    try:
        return AutoModel.from_pretrained(existing(name), use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no encoder could be loaded from {name!r}: {first_line(error)}") from None


def check_length(max_length: int, tokenizer: Tokenizer) -> None:
    least = tokenizer.num_special_tokens_to_add() + 1
    if not least <= max_length <= tokenizer.model_max_length:
        raise UserError(f"expected a max_length from {least} to {tokenizer.model_max_length}, got {max_length}")


def positions(config: Any) -> int | None:
    """The tokens a model has positions for; None: any number."""
    room = getattr(config, "max_position_embeddings", None)
    if room is not None and config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        room -= 2  # their positions begin behind the padding index
    return room


def model_folder(name: str) -> str:
    """The model in a run's folder; any other name as it is.

    Raises:
        UserError: nothing is there, or it is a bundle, or a folder without a model.
    """
    path = Path(existing(name))
    if not path.is_dir():
        return name
    for inner in ("student", "model"):
        if (path / "run.json").is_file() and (path / inner).is_dir():
            return str(path / inner)
    if (path / "bundle.json").is_file():
        raise UserError(f"{name}: expected a model, got a bundle, which is exported already; see `contrastill verify`")
    if (path / "run.json").is_file():
        raise UserError(f"{name}: expected a finished run with a student/ or model/, found neither; finish it first")
    if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
        raise UserError(f"{name}: expected a model's folder (with config.json or modules.json), found neither")
    return str(path)
