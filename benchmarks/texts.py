"""Short texts of many kinds from labelled sets, without their labels: what the longest runs read beside Wikipedia.

    python benchmarks/texts.py DATA OUT.txt --count 98304

DATA has unlabelled/multi30k, nli/, glue/QQP, glue/MNLI and glue/QNLI (training parts). A text comes once; the order is
random, of seed 0. It says how many of them are also, word for word, in the seven STS sets.
"""

import argparse
import csv
import random
from collections.abc import Iterator
from pathlib import Path

from contrastill.evaluation.sts import load_sts

TABLES = {
    "nli/nli_triples_small.csv": ("sent0", "sent1", "hard_neg"),
    "nli/nli_entailment_pairs.csv": ("sent0", "sent1"),
    "glue/QQP/train_union.tsv": ("question1", "question2"),
    "glue/MNLI/subset_train_8999.tsv": ("sentence1", "sentence2"),
    "glue/QNLI/subset_train_8999.tsv": ("question", "sentence"),
}


def captions(data: Path) -> list[list[str]]:
    """Of each image its captions."""
    return [line.split("\t") for line in (data / "unlabelled/multi30k/train.captions.tsv").read_text().splitlines()]


def rows(file: Path) -> Iterator[dict[str, str]]:
    """Of a .csv, or of a .tsv in which quotes are letters."""
    with file.open(newline="") as lines:
        options = {} if file.suffix == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
        yield from csv.DictReader(lines, **options)  # type: ignore[arg-type]


def tested(data: Path) -> set[str]:
    """The texts of the seven STS sets."""
    return {text for pairs in load_sts(data).values() for text in (*pairs.first, *pairs.second)}


def texts(data: Path) -> Iterator[str]:
    for image in captions(data):
        yield from image
    for name, columns in TABLES.items():
        for row in rows(data / name):
            yield from (row[column] for column in columns if row.get(column))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=98_304)
    args = parser.parse_args()
    unique = list(dict.fromkeys(text.strip() for text in texts(args.data) if text.strip()))
    random.Random(0).shuffle(unique)
    chosen = unique[: args.count]
    print(f"{len(chosen):,} of {len(unique):,} texts; {len(tested(args.data) & set(chosen))} are in the STS sets too")
    args.out.write_text("\n".join(chosen) + "\n")


if __name__ == "__main__":
    main()
