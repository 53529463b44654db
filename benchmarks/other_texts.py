"""The other rows for training, without labels, of two sets of `few.variants.json`: a file of texts each.

    python benchmarks/other_texts.py GLUE BANKING77 OUT

OUT gets SST-2.txt, the first 9,000 texts of train, and BANKING77.txt, the texts of train that `contrastill` does not
hold out as dev. The other sets have a dev file of their own, and the whole train file is read.
"""

import argparse
from pathlib import Path

from contrastill.data.load import load_task
from contrastill.studies.neighbours import plain

MOST = 9_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glue", type=Path)
    parser.add_argument("banking77", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, data in {"SST-2": args.glue / "SST-2", "BANKING77": args.banking77}.items():
        texts = list(load_task(data).splits["train"]["text"])
        lines = [plain(text) for text in texts[: MOST if name == "SST-2" else None]]
        (args.out / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        print(f"{name}: {len(lines):,} texts")


if __name__ == "__main__":
    main()
