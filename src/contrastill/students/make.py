"""Make the student: a smaller model of the teacher's own family, and the weights it starts from."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from contrastill.errors import UserError, first_line
from contrastill.loading import check_ids, load_config, load_like, load_tokenizer, locate, rows_of
from contrastill.mapping import uniform
from contrastill.ranges import suggestion
from contrastill.shapes import STARTS, Shape
from contrastill.students.families import FAMILIES, Layer
from contrastill.students.inherit import inherit
from contrastill.students.sample import read_sample
from contrastill.students.shape import check_shape, fitted, parse_shape, shape_of
from contrastill.students.static import inherit_words
from contrastill.students.structure import RELATIVE, class_for, student_config

__all__ = ["NoDirections", "make_student"]

logger = logging.getLogger(__name__)


def make_student(
    teacher: PreTrainedModel,
    tokenizer: Any,
    shape: Shape | str,
    start: str | Path = "inherit",
    *,
    seed: int = 0,
    texts: Sequence[str] | None = None,
) -> PreTrainedModel:
    """A student with the teacher's vocabulary and head, in float32, on the CPU, in eval mode.

    It is of the teacher's class, unless narrow tables, shared layers or no layers make it another
    (`students/structure.py`).

    `start` is one of
    * "random": the architecture's own initial weights;
    * "copy": evenly spaced layers of the teacher (needs its width, heads and neurons), its embeddings and its head;
    * "inherit": the teacher's weights reduced to the student's shape. `texts` are the texts it is fitted on, best the
      ones you will train on: without them it makes do with random tokens. Where "copy" can serve, it is "copy";
    * a folder with a student distilled earlier, for instance a general one that is now to learn a task.

    The same arguments give the same student; the global random state is left as it was.
    """
    if isinstance(shape, str):
        shape = parse_shape(shape, teacher.config)
    else:
        check_shape(shape, teacher.config)
        shape = fitted(shape, teacher.config)
    check_ids(len(tokenizer) - 1, rows_of(teacher))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs too
        if start not in STARTS:
            return load_folder(teacher, tokenizer, shape, Path(start))
        student = built(teacher, shape)
        own = shape_of(teacher.config)
        same_layers = type(student) is type(teacher) and replace(shape, layers=own.layers) == own
        if start == "copy" and not same_layers:
            raise UserError(
                f"expected layers like the teacher's ({shape_of(teacher.config)}) for start='copy', got {shape}; "
                "use start='inherit', which fits the weights to any shape"
            )
        with torch.no_grad():
            if start != "random" and same_layers:
                copy_layers(student, teacher)
            elif start == "inherit":
                sample = read_sample(tokenizer, texts, teacher.config, seed)
                try:
                    if shape.layers:
                        inherit(student, teacher, sample, seed)
                    else:
                        inherit_words(student, teacher, tokenizer, sample, seed)
                except torch.linalg.LinAlgError:
                    raise NoDirections(
                        "start='inherit' cannot reduce the teacher's layers: their values are not finite, or "
                        "the same for every text; check the teacher's weights, or use start='random'"
                    ) from None
    return student


class NoDirections(UserError):
    """A teacher whose layers cannot be inherited: values that are not finite, or the same for every text."""


def built(teacher: PreTrainedModel, shape: Shape) -> PreTrainedModel:
    """A model of this shape, with random weights.

    Raises:
        UserError: the class cannot be built in this shape, or cannot read a text.
    """
    try:
        config = student_config(teacher.config, shape)
        student = class_for(teacher, config)(config).eval()
        if config.model_type != teacher.config.model_type:  # its config does not say how the teacher attends
            student.set_attn_implementation(teacher.config._attn_implementation)
    except UserError:
        raise
    except Exception as error:  # an architecture's own check of its sizes
        raise UserError(
            f"a {teacher.config.model_type} of the shape {shape} (layers/hidden/heads/ffn) cannot be built "
            f"({first_line(error)}); choose other numbers, or layers of the teacher's width, such as '3L'"
        ) from None
    check_reads_texts(student, shape)
    if config.model_type == "albert" and teacher.config.model_type in RELATIVE:
        logger.info(
            "the student is an ALBERT, without the relative positions of the teacher's %s: it has the absolute ones",
            teacher.config.model_type,
        )
    return student


def check_reads_texts(student: PreTrainedModel, shape: Shape) -> None:
    """Raises a UserError unless a student of this shape can read two tokens."""
    ids = torch.arange(2)[None] % student.config.vocab_size
    try:
        with torch.no_grad():
            student(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception as error:  # of whichever layer does not fit
        raise UserError(
            f"a {student.config.model_type} of the shape {shape} (layers/hidden/heads/ffn) cannot read a text "
            f"({first_line(error)}): something in its config.json is tied to the teacher's width; choose layers of "
            "that width, such as '3L'"
        ) from None


def copy_layers(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Copies teacher layer phi(i) to student layer i, and everything else unchanged."""
    depth = teacher.config.num_hidden_layers
    stacks = [n for n, m in teacher.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not stacks and not shape_of(teacher.config).shared:
        raise UserError(f"cannot find the {depth} layers of {type(teacher).__name__} to copy; use start='random'")
    source = teacher.state_dict()
    pairs = uniform(student.config.num_hidden_layers, depth)
    numbered = {f"{stack}.{i - 1}.": f"{stack}.{j - 1}." for stack in stacks for i, j in pairs}
    for name, weight in student.state_dict().items():
        prefix = next((p for p in numbered if name.startswith(p)), "")
        weight.copy_(source[numbered.get(prefix, "") + name.removeprefix(prefix)])
    family = FAMILIES.get(teacher.config.model_type)
    if family and family.final_norm and pairs[0][1] > 1:
        # ModernBERT's first layer has no attention norm, its input comes normalised: fold in the gain of the copied one
        first, copied = Layer(student, family, 1), Layer(teacher, family, pairs[0][1])
        first.reader.weight.mul_(copied.attention_norm.weight.to(first.reader.weight))


def load_folder(teacher: PreTrainedModel, tokenizer: Any, shape: Shape, folder: Path) -> PreTrainedModel:
    """The student saved in `folder`, with the teacher's class and labels, and a new head if none fits."""
    if not folder.expanduser().exists() and len(folder.parts) < 2:
        raise UserError(
            f"expected start to be one of {', '.join(STARTS)} or a folder with a student, got {str(folder)!r}"
            + suggestion(str(folder), STARTS)
        )
    place = locate(str(folder))
    config = load_config(place)

    def expect(what: str, expected: Any, got: Any, remedy: str) -> None:
        if expected != got:
            raise UserError(f"expected a start with {what} {expected}, got {got} in {folder}; {remedy}")

    own = "or take it with its own tokenizer (--student as-is)"
    wanted = student_config(teacher.config, shape)
    expect("shape", str(shape), str(shape_of(config)), "ask for that shape, or start from another folder")
    expect("model_type", wanted.model_type, config.model_type, f"start from a student of the same family, {own}")
    expect("vocab_size", teacher.config.vocab_size, config.vocab_size, f"its teacher had another vocabulary; {own}")
    if place.file("tokenizer.json") is not None:
        other = set(load_tokenizer(str(folder)).get_vocab().items()) ^ set(tokenizer.get_vocab().items())
        differing = f"{len(other)} differing entries" if other else "the same entries"
        expect("a vocabulary of", "the same entries", differing, f"its teacher had another tokenizer; {own}")
    config.id2label, config.label2id = teacher.config.id2label, teacher.config.label2id
    config.problem_type = teacher.config.problem_type
    student = load_like(class_for(teacher, wanted), str(folder), config, teacher.config._attn_implementation)
    return student.eval()
