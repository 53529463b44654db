"""Labels from a language model behind an HTTP API: asked for once a text, and stored as they come."""

from contrastill.labelling.call import Labelled
from contrastill.labelling.run import label

__all__ = ["Labelled", "label"]
