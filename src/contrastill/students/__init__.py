"""The student: its shape, its construction from the teacher, and its start, stored in the cache."""

from contrastill.students.make import NoDirections, copy_layers, make_student
from contrastill.students.remembered import start_student
from contrastill.students.shape import fitting_shape, parse_shape, shape_of
from contrastill.students.structure import student_config

__all__ = [
    "NoDirections",
    "copy_layers",
    "fitting_shape",
    "make_student",
    "parse_shape",
    "shape_of",
    "start_student",
    "student_config",
]
