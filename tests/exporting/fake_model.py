"""A model that costs nothing, for tests of what is around models. Importing it imports no torch."""

import time
from typing import Any

import numpy as np

from contrastill.answers import answer_of

CLASSES = ["cold", "mild", "hot"]


class Fake:
    """A model of three classes that costs nothing: a text's class is its first letter's."""

    name = task = "fake"
    texts, max_length = 1, 30
    answer = answer_of({"task": "classification", "labels": CLASSES, "dimensions": None})
    delay = 0.0

    def run(self, texts: Any, batch_size: int = 32) -> np.ndarray:
        time.sleep(self.delay)
        return np.stack([np.roll([0.5, 0.25, 0.25], ord(str(text)[0])) for text in texts]).astype(np.float32)

    def cut_share(self, texts: Any) -> float:
        return 0.0
