from contrastill.methods.base import Stage
from contrastill.methods.language import LanguageMethod


class SFT(LanguageMethod):
    """Supervised fine-tuning on the given answers: makes teachers, and is the baseline of every student.

    `-log q(y_i | x, y_<i)`, for each token of the answer, its end included.
    """

    name = "sft"
    uses_teacher = False
    stages = (Stage("finetune", {"hard": 1.0}),)
