"""The student: its shape, how it is made of the teacher, and its start remembered beside the teacher's outputs."""

from contrastill.students.families import FAMILIES
from contrastill.students.make import STARTS, NoDirections, make_student
from contrastill.students.remembered import remembered_start, start_student
from contrastill.students.shape import PRESETS, Shape, parse_shape

__all__ = [
    "FAMILIES",
    "PRESETS",
    "STARTS",
    "NoDirections",
    "Shape",
    "make_student",
    "parse_shape",
    "remembered_start",
    "start_student",
]
