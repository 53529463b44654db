"""Speed of models, timed in turns. Importing this imports no torch: its workers count their memory."""

from contrastill.timing.compare import bench

__all__ = ["bench"]
