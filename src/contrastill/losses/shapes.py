"""Checks for shapes that a loss would broadcast or average wrongly."""

from torch import Tensor

__all__ = ["check_labels", "check_pair"]


def check_pair(student: Tensor, teacher: Tensor, shape: str, mask: Tensor | None = None) -> None:
    """Raises a ValueError unless both have one shape, as many dimensions as `shape` ("B L D"), and mask (B, L) fits."""
    names = shape.split()
    if student.shape != teacher.shape or student.dim() != len(names):
        raise ValueError(
            f"expected student and teacher of one shape ({', '.join(names)}), got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}"
        )
    size = (student.shape[0], student.shape[2 if len(names) == 4 else 1])  # attention: (B, H, L, L)
    if mask is not None and mask.shape != size:
        raise ValueError(f"expected a mask of {size} for {tuple(student.shape)}, got {tuple(mask.shape)}")


def check_labels(student: Tensor, labels: Tensor, shape: tuple[int, ...]) -> None:
    """Raises a ValueError unless student is (B, C) and labels has `shape`."""
    if student.dim() != 2 or labels.shape != shape:
        raise ValueError(
            f"expected student (B, C) and labels of {shape}, got {tuple(student.shape)} and {tuple(labels.shape)}"
        )
