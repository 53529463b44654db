"""Figures as the pages write them."""

__all__ = [
    "PERCENT",
    "WORDS",
    "duration",
    "megabytes",
    "millions",
    "milliseconds",
    "percent",
    "shown",
    "signed",
    "times",
]

PERCENT = {"accuracy", "f1", "precision", "recall", "agreement", "retrieval", "exact_match", "rouge_l"}
WORDS = {
    "f1": "F1",
    "f1_macro": "macro F1",
    "f1_micro": "F1 of all labels together (micro)",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "agreement": "agreement on neighbours",
    "retrieval": "partners found first",
    "kl": "KL from the teacher",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "own_nats": "teacher's nats on own answers",
    "distinct_2": "distinct bigrams",
}


def signed(change: float, places: int = 2) -> str:
    """A number with its sign, 0 without; the minus is as wide as the plus."""
    text = f"{change:+.{places}f}".replace("-", "\u2212")
    return text if any(digit in text for digit in "123456789") else text[1:]


def shown(value: float, metric: str, hundred: bool = False) -> str:
    if metric in PERCENT and not hundred:
        return f"{100 * value:.2f}\u00a0%"
    return f"{value:.2f}" if hundred else f"{value:.4f}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def times(ratio: float) -> str:
    return f"{ratio:.1f}\u00a0×" if ratio < 100 else f"{ratio:.0f}\u00a0×"


def millions(count: float) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,.0f}"


def megabytes(size: float) -> str:
    return f"{size:.0f}" if size >= 10 else f"{size:.2g}"


def milliseconds(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
