"""Speed of models side by side. Importing this imports no torch: its workers count their memory."""

from contrastill.timing.compare import bench

__all__ = ["bench"]
