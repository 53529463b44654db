"""What a precision costs: models exported as `contrastill export` does it, beside themselves in torch float32.

    python benchmarks/precision.py --model intents=RUN --model embedder=RUN --dev glue/stsb --sts FOLDER

Each model is a run's folder, judged on its own dev data (an embedding model on `--dev`). `--sts`: embedding models are
scored on the seven STS sets too, as a bundle and in torch. Writes benchmarks/results/precision.json.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from contrastill.errors import CheckFailed
from contrastill.evaluation.sts import load_sts, sts_scores
from contrastill.exporting import export, exportable
from contrastill.loading import load_embedder
from contrastill.machine import describe_machine
from contrastill.training.suite import Embedding

WAYS = (("openvino", "bf16"), ("onnx", "int8"), ("openvino", "int8"))
OUT = Path(__file__).parent / "results" / "precision.json"


def rows_of(name: str, folder: str, dev: str | None, sts: str | None) -> list[dict[str, Any]]:
    source = exportable(folder)
    embeds = source.task == "embedding"
    sets = load_sts(sts) if embeds and sts else {}
    whole = sts_scores(load_embedder(str(Path(folder) / "model")), sets)["mean"] if sets else None
    rows = []
    for to, precision in WAYS:
        with tempfile.TemporaryDirectory() as place:
            row: dict[str, Any] = {"model": name, "parameters": source.parameters, "to": to, "precision": precision}
            try:
                made = export(
                    model=folder, to=to, precision=precision, out=f"{place}/bundle", data=dev if embeds else None
                )
                files = made.metadata["files"]
                row |= {key: made.metadata[key] for key in ("gate", "tried", "recipe")}
                row["file_mb"] = sum(f["bytes"] for n, f in files.items() if n != "tokenizer.json") / 1e6
                if sets:
                    row["sts_mean"] = {"torch": whole, "bundle": sts_scores(Embedding(str(made.folder)), sets)["mean"]}
            except CheckFailed as error:
                row["refused"] = str(error)
        print(json.dumps(row)[:400], flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="NAME=RUN, once for each")
    parser.add_argument("--dev", help="scored pairs that judge an embedding model")
    parser.add_argument("--sts", help="folder of the STS sets")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = [row for one in args.model for row in rows_of(*one.split("=", 1), args.dev, args.sts)]
    named = " ".join(f"--model {one.partition('=')[0]}=RUN" for one in args.model)
    command = f"python benchmarks/precision.py {named}" + " --dev glue/stsb --sts FOLDER" * bool(args.sts)
    result = {"command": command, "machine": describe_machine(), "rows": rows}
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
