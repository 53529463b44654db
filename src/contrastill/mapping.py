"""Maps student layers to teacher layers. Layers count from 1; 0 is the embedding output."""

__all__ = ["MAPS", "last", "skip", "uniform"]


def uniform(student_depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """Every student layer, evenly spaced over the teacher: phi(i) = i * N / M, rounded half up.

    LRC-BERT and TinyBERT use it (4 from 12: 3, 6, 9, 12). The last student layer always meets the last teacher layer.
    """
    _check(student_depth, teacher_depth)
    return [(i, (2 * i * teacher_depth + student_depth) // (2 * student_depth)) for i in range(1, student_depth + 1)]


def skip(student_depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """BERT-PKD "skip": as `uniform`, without the last pair (6 from 12: 2, 4, 6, 8, 10), which the soft labels teach."""
    return uniform(student_depth, teacher_depth)[:-1]


def last(student_depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """BERT-PKD "last": the layers just below the teacher's top, without the top itself (6 from 12: 7, 8, 9, 10, 11)."""
    _check(student_depth, teacher_depth)
    return [(i, teacher_depth - student_depth + i) for i in range(1, student_depth)]


def _check(student_depth: int, teacher_depth: int) -> None:
    if not 1 <= student_depth <= teacher_depth:
        raise ValueError(
            f"expected a student of 1 to {teacher_depth} layers (the teacher's depth), got {student_depth}; "
            "choose a shallower student"
        )


MAPS = {"uniform": uniform, "skip": skip, "last": last}
