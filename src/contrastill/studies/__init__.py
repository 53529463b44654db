"""Several runs as one: studies of variants, and the demos."""

from contrastill.studies.cells import Cells
from contrastill.studies.study import Study

__all__ = ["Cells", "Study"]
