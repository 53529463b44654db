"""The start of a smaller language model: the teacher's layers or reduced weights, random ones, or another model."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from contrastill.errors import UserError, first_line
from contrastill.settings import LanguageDistillation
from contrastill.shapes import AS_IS, Shape, read_shape
from contrastill.students import NoDirections, copy_layers
from contrastill.students.inherit_decoder import DECODERS, fit_decoder, inherit_decoder
from contrastill.students.sample import Sample, sample_rows
from contrastill.students.shape import keep_layers, shared_keys
from contrastill.training.language_models import load_exact_model

__all__ = ["start_language_model", "with_start"]

logger = logging.getLogger(__name__)


def with_start(settings: LanguageDistillation, teacher: PreTrainedModel) -> LanguageDistillation:
    """The settings with a start and a rate where none was asked for: `inherit` if the teacher's layers are known, else
    `copy`."""
    start = settings.start or ("inherit" if teacher.config.model_type in DECODERS else "copy")
    rate = settings.usual_rate if settings.learning_rate is None else settings.learning_rate
    return replace(settings, start=start, learning_rate=rate)


def start_language_model(
    settings: LanguageDistillation, teacher: PreTrainedModel, rows: Sequence[Mapping[str, Any]], pad: int
) -> PreTrainedModel:
    """The student before training; the same settings give the same one.

    Args:
        settings: with a start.
        rows: training rows ("prompt", "answer": ids), on some of which `inherit` is fitted. pad: the id of padding.

    Raises:
        UserError: a shape that the teacher's family cannot have.
    """
    if settings.student == AS_IS:
        return load_exact_model(str(settings.start))
    shape, options = read_shape(settings.student)
    if options or (isinstance(shape, Shape) and not shape.layers):
        raise UserError(
            f"--student: expected layers of a language model, such as 8L or 4/256/4/1024, got {settings.student!r}"
        )
    own = isinstance(shape, int)
    layers = shape if isinstance(shape, int) else shape.layers
    if not 0 < layers <= teacher.config.num_hidden_layers:
        raise UserError(
            f"--student {settings.student}: expected 1 to {teacher.config.num_hidden_layers} layers, as the teacher "
            f"has, got {layers}"
        )
    if settings.start == "copy" and not own:
        raise UserError(
            f"--student {settings.student} --start copy: layers of another width cannot be copied; give their number "
            f"alone (--student {layers}L), or --start inherit or random"
        )
    config = config_of(teacher, shape)
    if settings.start == "inherit":
        fit_decoder(config, teacher.config, settings.student)
    try:
        config.validate()  # saving it does so too, after training
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(settings.seed)
            student: PreTrainedModel = type(teacher)(config).eval()
            student(input_ids=torch.zeros(1, 2, dtype=torch.long))  # heads of an odd width are met here
    except Exception as error:  # an architecture's own check of its sizes
        raise UserError(
            f"a {teacher.config.model_type} of the shape {settings.student} cannot be built "
            f"({first_line(error.__cause__ or error)})"
        ) from None
    if settings.start == "copy":
        with torch.no_grad():
            copy_layers(student, teacher)
    elif settings.start == "inherit":
        sample = sample_rows(rows, pad, settings.seed)
        read = sum(int(mask.sum()) for _, mask in sample)
        logger.info("start: the teacher reads %s tokens of the training texts, to be reduced by them", f"{read:,}")
        inherited(student, teacher, sample)
    student.generation_config = copy.deepcopy(teacher.generation_config)
    return student


def inherited(student: PreTrainedModel, teacher: PreTrainedModel, sample: Sample) -> None:
    """Reduces the teacher's weights to the student's shape.

    Raises:
        UserError: a teacher whose values are not finite, or the same for every text.
    """
    try:
        with torch.no_grad():
            inherit_decoder(student, teacher, sample)
    except torch.linalg.LinAlgError:
        raise NoDirections(
            "--start inherit cannot reduce the teacher's layers: their values are not finite, or the same for every "
            "text; check the teacher's weights, or use --start random"
        ) from None


def config_of(teacher: PreTrainedModel, shape: Shape | int) -> Any:
    """The teacher's config with other sizes."""
    config: Any = copy.deepcopy(teacher.config)
    keep_layers(config, shape if isinstance(shape, int) else shape.layers)
    if isinstance(shape, Shape):
        config.hidden_size, config.num_attention_heads = shape.hidden, shape.heads
        setattr(config, "n_inner" if hasattr(config, "n_inner") else "intermediate_size", shape.ffn)
        if hasattr(config, "num_key_value_heads"):
            config.num_key_value_heads = shared_keys(shape.heads, teacher.config)
        if hasattr(config, "head_dim"):
            config.head_dim = shape.hidden // shape.heads
    return config
