"""The method of a distillation for which none was asked, and the measurement that speaks for it."""

import logging
from dataclasses import replace

from contrastill.methods import method_settings
from contrastill.settings import Distillation

__all__ = ["with_method"]

logger = logging.getLogger(__name__)

CHOICES = {
    "answers": ("kd", "a file of answers gives no layers to compare; docs/teacher-outputs.md"),
    "static": ("kd", "a student without layers has none to compare; docs/choosing.md#smaller-by-structure"),
    "layers": (
        "lrc_bert",
        "the teacher's layers are there to learn from: level with kd from an inherited start, mostly ahead from a "
        "weaker one, with a tokenizer of its own too, and for taggers; docs/choosing.md#method",
    ),
}
"""What is known of a run -> the method, and why."""


def with_method(settings: Distillation) -> tuple[Distillation, dict[str, str]]:
    """The settings with a method, and the reason, where none was asked for: what is known of the run decides, unless
    --set gives what only another method has."""
    if settings.method is not None:
        return settings, {}
    known = "static" if settings.student.strip().startswith("static") else "layers"
    if settings.teacher is None:
        known = "answers"
    name, why = CHOICES[known]
    others = (other for other, _ in CHOICES.values() if settings.set.keys() <= method_settings(other).keys())
    if not settings.set.keys() <= method_settings(name).keys() and (other := next(others, None)) is not None:
        name, why = other, f"it has {' and '.join(f'{key!r}' for key in settings.set)}, which --set gives"
    logger.info("method: %s: %s", name, why)
    return replace(settings, method=name), {"method": f"{name}: {why}"}
