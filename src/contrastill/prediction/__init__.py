"""The answers of a model to the texts of a file of any size."""

from contrastill.prediction.run import Predictions, predict

__all__ = ["Predictions", "predict"]
