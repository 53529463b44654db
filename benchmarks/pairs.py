"""Pairs of texts that belong together, of three kinds: what stage 2 of DisCo learns from beside NLI triples.

    python benchmarks/pairs.py DATA OUT

DATA has unlabelled/multi30k, nli/ and glue/QQP (training parts). OUT gets captions.csv (two captions of one image, as
many as there are NLI pairs), qqp.csv (questions that are duplicates) and all.csv (both, and the NLI pairs), in random
order, of seed 0. It says how many of the texts are also, word for word, in the seven STS sets.
"""

import argparse
import csv
import random
from pathlib import Path

from texts import captions, rows, tested


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    known = tested(args.data)
    entailed = [(row["sent0"], row["sent1"]) for row in rows(args.data / "nli/nli_entailment_pairs.csv")]
    of_images = [(first, second) for first, second, *_ in captions(args.data)]
    questions = rows(args.data / "glue/QQP/train_union.tsv")
    same = [(row["question1"], row["question2"]) for row in questions if row["is_duplicate"] == "1"]
    rng = random.Random(0)
    rng.shuffle(of_images)
    of_images = of_images[: len(entailed)]
    for name, pairs in {"captions": of_images, "qqp": same, "all": entailed + of_images + same}.items():
        rng.shuffle(pairs)
        with (args.out / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("sent0", "sent1"), *pairs])
        texts = {text for pair in pairs for text in pair}
        print(f"{name}: {len(pairs):,} pairs; {len(known & texts)} of {len(texts):,} texts are in the STS sets too")


if __name__ == "__main__":
    main()
