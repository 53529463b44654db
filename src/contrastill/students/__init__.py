"""The student: its shape, how it is made of the teacher, and its start remembered beside the teacher's outputs."""

from contrastill.students.make import STARTS, NoDirections, make_student
from contrastill.students.remembered import start_student
from contrastill.students.shape import parse_shape

__all__ = ["STARTS", "NoDirections", "make_student", "parse_shape", "start_student"]
