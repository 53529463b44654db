"""A student's shape as it is written."""

import pytest

from contrastill.errors import UserError
from contrastill.settings import Distillation, EmbeddingDistillation, Pretraining
from contrastill.shapes import Shape, read_shape

RUNS = [(Distillation, {"data": "b"}), (EmbeddingDistillation, {"texts": ["b"]}), (Pretraining, {"texts": ["b"]})]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("4L-312", (Shape(4, 312, 12, 1200), {})),
        (" 2/16/4/32+shared+e8 ", (Shape(2, 16, 4, 32), {"shared": True, "embedding": 8})),
        ("3L+e128", (3, {"embedding": 128})),
        ("static-256", (Shape(0, 256, 0, 0), {})),
    ],
)
def test_a_shape_is_read_without_its_teacher(text, read):
    assert read_shape(text) == read


@pytest.mark.parametrize(("kind", "settings"), RUNS, ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("4L-321", "did you mean '4L-312'"),
        ("4/312/12", "expected a student shape"),
        ("4L-312+e", r"expected \"\+e\" and a width"),
        ("4L-312+shared+shared", "each option of a student shape once"),
        ("static-256+e64", "static-256 without options"),
    ],
)
def test_a_typing_error_is_refused_with_the_settings_before_anything_is_loaded(kind, settings, student, said):
    teacher = ["a"] if kind is EmbeddingDistillation else "a"
    with pytest.raises(UserError, match=said):
        kind.given({"teacher": teacher, "out": "c", "student": student, **settings})


@pytest.mark.parametrize(("kind", "settings"), RUNS, ids=lambda each: getattr(each, "__name__", ""))
def test_an_encoder_as_it_is_has_to_be_named(kind, settings):
    teacher = ["a"] if kind is EmbeddingDistillation else "a"
    with pytest.raises(UserError, match="takes an encoder as it is: name its folder"):
        kind.given({"teacher": teacher, "out": "c", "student": "as-is", **settings})


def test_a_file_of_answers_has_no_smaller_form():
    with pytest.raises(UserError, match="names no model that a student of the shape 4L-312 could be made of"):
        Distillation.given({"teacher_outputs": "a", "data": "b", "out": "c"})
