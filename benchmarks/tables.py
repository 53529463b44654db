"""docs/benchmarks.md from benchmarks/results/*.json: nothing in it is typed by hand.

python benchmarks/tables.py            (--check: exit code 1 if the page is not what the results say)
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from any_teacher_page import any_teacher, selective
from contrast import section as contrast
from first_hour_page import few_labels, first_hour, first_hour_cpu
from language_memory import section as language_memory
from language_step import section as language_step
from markdown_parts import machine, table, write_or_check
from method_steps import section as method_steps
from multilabel_page import multilabel
from tagging_page import tagging, tagging_negatives

from contrastill.errors import counted
from contrastill.timing import table as bench

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def step(result: dict[str, Any]) -> str:
    names = list(next(iter(result["lengths"].values()))["samples_per_s"])
    rates = [f"{found['matrix_rate_tflops']:.2f}" for found in result["lengths"].values()]
    rows = []
    for name in names:
        cells = [name]
        for found in result["lengths"].values():
            pace, share = found["samples_per_s"][name], found["share_of_matrix_rate"][name]
            cells.append(f"{pace:.0f} ({found['over_trainer'][name]:.2f} x, {share:.0%})")
        rows.append(cells)
    return (
        "## The student's training step\n\n"
        "Samples a second of a `4L-312` on its labels, batches of 32 texts of one length; in brackets, times the plain "
        "Trainer and the share of the machine's bfloat16 matrix rate "
        f"({', '.join(rates)} TFLOP/s while measuring). "
        f"{result['words_that_occur']:,} of 30 522 words occur. Each of the last three rows leaves out one saving.\n\n"
        + table(["", *(f"{length} tokens" for length in result["lengths"])], rows)
        + f"\n{machine(result)}\n"
    )


def teacher(result: dict[str, Any]) -> str:
    rows = [
        [name, f"{pace:.0f}", f"{result['contrastill_over'][name]:.2f}", f"{result['share_of_matrix_rate'][name]:.0%}"]
        for name, pace in result["sentences_per_s"].items()
    ]
    tokens, cosine = result["tokens"], result["cosine_with_float32"]
    return (
        f"## The teacher's pass\n\n{result['teacher']} over Wikipedia sentences of {tokens['mean']:.0f} tokens on "
        f"average, {tokens['most']} at most, from text to vectors; ours stores them too. Stored vectors against "
        f"float32: cosine {cosine['mean']:.5f} on average, {cosine['least']:.5f} at least.\n\n"
        + table(["", "sentences/s", "speed-up of ours", "of the matrix rate"], rows)
        + f"\n{machine(result)}\n"
    )


def distil(result: dict[str, Any]) -> str:
    rows = []
    for name, found in result["sides"].items():
        measured = ", ".join(f"{found['measured_s'][e]:.0f}" for e in ("1", "3"))
        computed = [f"{found['computed_s'][e]:,.0f} s ({found['times_ours'][e]:.1f})" for e in ("1", "3", "18")]
        made_of = [f"{found[part]:.1f}" for part in ("start_s", "teacher_s", "epoch_s")]
        dev = found["dev"]["3"][0]
        rows.append([name, measured, *made_of, *computed, f"{dev['accuracy']:.3f} / {dev['f1']:.3f}"])
    head = ["", "measured, 1 and 3 epochs (s)", "start", "teacher's pass", "an epoch"]
    head += ["1 epoch, computed", "3, computed", "18, computed", "dev after 3"]
    cannot = [f"- {name}: {line}" for name, found in result["sides"].items() for line in found.get("cannot", [])]
    return (
        f"## From text to a trained student\n\nMRPC, batches of {result['batch_size']}, the 109 M teacher and a "
        f"`4L-312` from the same start. Measured on the first {result['rows']} training rows; *computed* from the "
        f"parts for all {result['whole']:,} (in brackets, times ours): the teacher's pass and the epochs grow with the "
        "rows, the start does not. Measured times of ours include its checks and the teacher's score; the parts "
        "leave the scores out for all. Dev accuracy / F1 after 3 epochs of so few rows measure no method. The peers "
        "have no bfloat16 of their own: *ours float32* is the row at equal precision.\n\n"
        + table(head, rows)
        + "\nLimits of each:\n\n"
        + "\n".join(cannot)
        + f"\n\n{machine(result)}\n"
    )


def scale(result: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['sentences']:,}",
            f"{row['seconds']:.0f} s",
            f"{row['sentences_per_s']:,.0f}",
            f"{row['peak_mb']:.0f} MB",
            f"{row['bytes_per_sentence']:.0f}",
            f"{row['again']['seconds']:.0f} s, {row['again']['peak_mb']:.0f} MB",
            f"{row['again']['teacher_forwards']}",
        ]
        for row in result["rows"]
    ]
    head = ["sentences", "time", "a second", "peak memory", "bytes each", "second run", "its teacher forwards"]
    two = result["processes"]
    return (
        "## The cache at scale\n\nA random 1 x 384 teacher (the measurement is of the code around it), 384 numbers "
        "a sentence in float16, one thread.\n\n"
        + table(head, rows)
        + f"\n{two['sentences']:,} sentences by two processes of one thread: {two['ratio']:.2f} x as fast as by one. "
        f"Peak memory at {rows[-1][0]} is {result['memory_ratio']:.2f} times that at {rows[-2][0]}.\n\n"
        f"{machine(result)}\n"
    )


def faults(result: dict[str, Any]) -> str:
    return (
        f"## Damage\n\n{result['faults']:,} random faults (a byte flipped, a file cut, a block zeroed) over a cache: "
        f"{result['found']:,} found on opening, {result['served_wrong']} wrong rows served.\n\n{machine(result)}\n"
    )


def embeddings(result: dict[str, Any]) -> str:
    sets = list(result["rows"][0]["sts"])
    teachers = json.loads((RESULTS / "sts.json").read_text())["models"]
    text = [
        "## Sentence embeddings",
        "Spearman x 100 on the seven STS sets, of students of all-mpnet-base-v2 that were selected on STS-B dev; over "
        "several seeds the mean, and of the mean of 7 the standard deviation. Seconds are those of the run's training, "
        "one thread, beside another such run.",
        table(["", *sets], [[name, *(f"{it['scores'][each]:.2f}" for each in sets)] for name, it in teachers.items()]),
    ]
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in result["rows"]:
        groups.setdefault(row["about"]["group"], {}).setdefault(row["name"], []).append(row)
    for group in [name for name in result["groups"] if name in groups]:
        lines = []
        for name in sorted(groups[group], key=lambda n: groups[group][n][0]["about"]["order"]):
            found = groups[group][name]
            means = {each: sum(row["sts"][each] for row in found) / len(found) for each in sets}
            spread = statistics.stdev(row["sts"]["mean"] for row in found) if len(found) > 1 else None
            cells = [f"{means[each]:.2f}" for each in sets[:-1]]
            cells.append(f"{means['mean']:.2f}" + (f" ± {spread:.2f}" if spread is not None else ""))
            dev = sum(row["dev"] for row in found) / len(found)
            seconds = sum(row["seconds"]["training"] for row in found) / len(found)
            what = found[0]["about"]["what"]
            lines.append([what, str(len(found)), f"{found[0]['steps']:,}", *cells, f"{dev:.2f}", f"{seconds:,.0f}"])
        text += [f"### {group}", result["groups"][group], table(["", "seeds", "steps", *sets, "STS-B dev", "s"], lines)]
    return "\n\n".join(part.strip() for part in text) + f"\n\n{machine(result)}\n"


def speed(title: str) -> Callable[[dict[str, Any]], str]:
    """A section of what `contrastill bench` wrote."""

    def write(result: dict[str, Any]) -> str:
        rule = result["yardstick"]
        text = [
            f"## {title}",
            f"`contrastill bench` ([what each column is](bench.md)). *x faster*: relative to {rule['model']} in "
            f"{rule['runtime']} {rule['precision']}, at the same length and batch; *x, same runtime*: relative to "
            f"{rule['model']} in the same runtime and precision. Bold: each model's highest texts/s.",
        ]
        for group in bench.groups(result["rows"]):
            best, lines = bench.fastest(group), []
            for row in group:
                cells = bench.cells(row)
                lines.append([f"**{cell}**" if cell and row in best else cell for cell in cells])
            text += [f"### {bench.title(group[0])}", table(list(bench.HEAD), lines)]
        text += [f"- {line}" for line in (*result["warnings"], *result["left_out"])]
        used, load = result["machine"], result["load_average"][0]
        runtimes = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        where = f"{used['cpu']}, {counted(result['threads'], 'thread')}, {runtimes}, a load of {load:.2f} before it"
        return "\n\n".join(part.strip() for part in text) + f"\n\n{where}; `{result['command']}`\n"

    return write


def serving(result: dict[str, Any]) -> str:
    direct, bundle = result["direct"], result["bundle"]
    alone, together = direct["one_at_a_time"], direct["batches_of_32"]["texts_per_s"]
    rows = [
        [
            str(row["clients"]), f"{row['requests_per_s']:.0f}", f"{row['requests_per_s'] / alone['texts_per_s']:.2f}",
            f"{row['requests_per_s'] / together:.2f}", f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}",
            f"{row['texts_per_batch']:.1f}", f"{row['wrong']} of {row['compared']:,}",
        ]
        for row in result["clients"]["rows"]
    ]  # fmt: skip
    clients = result["clients"]
    text = (
        f"## Serving\n\n`contrastill serve` of {bundle['name']} ({bundle['runtime']}, {bundle['precision']}), "
        f"{counted(result['threads'], 'thread')}, {result['workers']} workers; a text a request, clients on the same "
        f"cores. Called directly, the bundle does {alone['texts_per_s']:.0f} texts/s one at a time (p50 "
        f"{alone['p50_ms']:.1f} ms, p99 {alone['p99_ms']:.1f} ms) and {together:.0f} in batches of 32. Ready after "
        f"{clients['start_s']:.1f} s, {clients['memory_mb']:.0f} MB.\n\n"
    )
    head = ["clients", "requests/s", "of one at a time", "of batches", "p50 ms", "p99 ms", "texts a batch", "wrong"]
    text += table(head, rows)
    if load := result.get("overload"):
        counts = ", ".join(f"{n:,} x {status}" for status, n in load["statuses"].items())
        text += (
            f"\nAt twice that rate for {load['seconds']:.0f} s ({load['rate_sent']:.0f} requests/s): {counts}; of "
            f"{load['compared']:,} answers {load['wrong']} wrong, {load['lost']} requests lost; p99 "
            f"{load['p99_ms']:.0f} ms.\n"
        )
    if bad := result.get("malformed"):
        counts = ", ".join(f"{n} x {status}" for status, n in bad["statuses"].items())
        text += f"\n{bad['sent']} malformed requests of {len(bad['kinds'])} kinds: {counts}.\n"
    if stops := result.get("stop"):
        text += (
            f"\nSIGTERM under 32 clients, {len(stops)} times: exit codes {sorted({s['exit_code'] for s in stops})}, "
            f"{sum(s['lost'] for s in stops)} requests lost, {max(s['seconds'] for s in stops):.1f} s at most.\n"
        )
    return text + f"\n{machine(result)}\n"


def serve_libraries(result: dict[str, Any]) -> str:
    rows = []
    for name, found in result["libraries"].items():
        outside = sum(n for where, n in found["ports"].items() if where in ("0.0.0.0", "::", "outside"))
        inside = sum(found["ports"].values()) - outside - found["ports"].get("its own", 0)
        stop = found["stop"]
        rows.append(
            [
                f"{name} {found['version']}", f"{found['installed_mb']:.0f}", f"{found['start_s']:.1f}",
                f"{found['memory_mb']:.0f}", str(found["processes"]), f"{inside} / {outside}",
                *(f"{row['requests_per_s']:.0f}" for row in found["clients"]), f"{found['clients'][0]['p50_ms']:.1f}",
                str(sum(n for row in found["clients"] for s, n in row["statuses"].items() if s.startswith("5"))),
                f"{stop['lost']} / {stop['exit_code']} / {stop['processes_left']}",
            ]
        )  # fmt: skip
    counts = [f"{row['clients']} clients" for row in next(iter(result["libraries"].values()))["clients"]]
    head = ["", "MB installed", "start s", "MB", "processes", "ports inside / outside", *counts, "p50 ms, 1", "5xx",
            "stop: lost / code / left"]  # fmt: skip
    return (
        "## Libraries for serving\n\nThe same model (one text directly: "
        f"{result['direct_one_text_ms']:.1f} ms) and endpoint over each, requests a second; ports are those beside the "
        "one asked for.\n\n" + table(head, rows) + f"\n{machine(result)}\n"
    )


def alike(agreement: dict[str, Any]) -> str:
    """The mean cosine, if answers have a direction, and the share of equal labels, if they have labels."""
    cosine, same = agreement["cosine_mean"], agreement["equal_labels"]
    found = [f"{cosine:.4f}" if cosine is not None else "–", *([f"{same:.1%}"] if same is not None else [])]
    return ", ".join(found)


def precision(result: dict[str, Any]) -> str:
    rows = []
    for row in result["rows"]:
        runtime = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}[row["to"]]
        cells = [row["model"], f"{row['parameters'] / 1e6:.1f} M", runtime, row["precision"], row.get("recipe") or ""]
        if "refused" in row:
            rows.append([*cells, "refused by the gate", "", "", "", ""])
            continue
        gate, sts = row["gate"], row.get("sts_mean")
        lost = f"{gate['drop_points']:+.2f}"
        if "drop_interval" in gate:
            lost += " ({:+.2f} to {:+.2f})".format(*gate["drop_interval"])
        rows.append(
            [
                *cells, f"{gate['data']}, {gate['metric']}: {100 * gate['torch']:.2f}", lost,
                alike(gate["agreement"]),
                f"{sts['bundle']:.2f} ({sts['torch']:.2f})" if sts else "", f"{row['file_mb']:.1f}",
            ]
        )  # fmt: skip
    head = ["model", "parameters", "runtime", "precision", "recipe", "judged on, in torch float32", "points lost",
            "cosine with torch, equal labels", "STS mean (torch)", "MB"]  # fmt: skip
    return (
        "## What a precision costs\n\nExported as `contrastill export` does it; the recipe is the one that it took. In "
        "brackets 95 % intervals (paired bootstrap over the rows); less than 0: the file scores higher.\n\n"
        + table(head, rows)
        + f"\n{machine(result)}\n"
    )


def gpu(result: dict[str, Any]) -> str:
    """Only what was measured: a section that failed or was left out has no part."""
    card, rate = result["card"], result["matrix_rate"]
    nominal = (
        f", {rate['per_s'] / card['nominal_tflops'] / 1e12:.0%} of its data sheet" if card.get("nominal_tflops") else ""
    )
    text = [
        "## On a GPU",
        f"{card['name']}, driver {card.get('driver')}, torch {result['machine']['torch']}, {result['date']}; random "
        f"weights, made-up texts. Shares are of {rate['per_s'] / 1e12:.0f} TFLOP/s, the rate of a bfloat16 product of "
        f"{rate['size']} x {rate['size']} matrices measured with them{nominal}. `{result['command']}`",
    ]
    if tests := result.get("tests"):
        text.append(f"Tests that need a GPU: {tests['summary'].strip('= ')}.")
    if teacher := result.get("teacher"):
        alone = teacher["alone"]
        rows = [
            [
                "the model alone, one batch again and again",
                f"{alone['texts_per_s']:,.0f}",
                f"{alone['share']:.0%}",
                "",
                "",
            ]
        ]
        for name, row in teacher.items():
            if isinstance(row, dict) and "from_text" in row:
                cells = [f"{row[side][key]:{form}}" for side in ("stored", "from_text")
                         for key, form in (("texts_per_s", ",.0f"), ("share", ".0%"))]  # fmt: skip
                rows.append([f"{name}: {row['tokens_mean']:.0f} tokens on average", *cells])
        head = ["the teacher's pass", "token ids to disk, texts/s", "share", "texts to disk, texts/s", "share"]
        text.append(table(head, rows))
    if steps := result.get("steps"):
        rows = [
            [
                row["name"], f"{row['batch']} x {row['tokens_mean']:.0f}", f"{row['steps_per_s']:.1f}",
                f"{row['texts_per_s']:,.0f}", f"{row['share']:.0%}", f"{row['loader_share']:.0%}",
                f"{row['peak_gb']:.2f}",
            ]
            for row in steps["rows"]
        ]  # fmt: skip
        head = [
            "the student's step",
            "texts x tokens",
            "steps/s",
            "texts/s",
            "share",
            "time in the loader",
            "GB at most",
        ]
        text.append(table(head, rows))
    if agreement := result.get("agreement"):
        cosines = "; ".join(
            f"{name} {found['mean']:.5f} on average, {found['least']:.5f} at least"
            for name, found in agreement["cosines"].items()
        )
        text.append(
            f"bfloat16 against float32, cosines of the teacher's outputs: {cosines}. Of two runs that differ in "
            f"precision alone, the losses of the first {len(agreement['losses']['bf16'])} steps differ by "
            f"{agreement['largest_difference']:.2%} at most."
        )
    if provider := result.get("provider"):
        if "largest_difference" in provider:
            text.append(
                f"The exported graph on ONNX Runtime {provider['onnxruntime']}'s CUDA provider: logits differ from its "
                f"processor's by {provider['largest_difference']:.1e} at most, {provider['equal_labels']:.1%} equal "
                "labels."
            )
        else:
            text.append(
                f"ONNX Runtime {provider['onnxruntime']} had no CUDA provider there: exports were not compared."
            )
    if result["errors"]:
        text.append("Not measured, because it failed: " + "; ".join(f"{k}: {v}" for k, v in result["errors"].items()))
    return "\n\n".join(part.strip() for part in text) + "\n"


PARTS = {
    "first_hour": first_hour,
    "first_hour_cpu": first_hour_cpu,
    "few_labels": few_labels,
    "any_teacher": any_teacher,
    "selective": selective,
    "tagging": tagging,
    "tagging_negatives": tagging_negatives,
    "gpu": gpu,
    "step": step,
    "method_steps": method_steps,
    "teacher": teacher,
    "distil": distil,
    "scale": scale,
    "cache_faults": faults,
    "embeddings": embeddings,
    "contrast": contrast,
    "language_step": language_step,
    "language_memory": language_memory,
    "multilabel": multilabel,
    "speed_paper": speed("BERT-base beside a 4L-312, 128 tokens"),
    "speed_without_amx": speed("The same on a processor without matrix instructions (AMX)"),
    "speed_structures": speed("Students of other structures beside all-MiniLM-L6-v2, 16 tokens"),
    "speed_tagging": speed("HarveyNER's teacher beside its student, one text"),
    "speed_tagging_mobie": speed("MobIE's teacher beside its student, one text"),
    "speed_language": speed("SmolLM2-135M-Instruct beside 8 of its layers, a caption's beginning and 32 new tokens"),
    "speed": speed("A teacher and its student, as served"),
    "precision": precision,
    "serve": serving,
    "serve_libraries": serve_libraries,
}


def page() -> str:
    parts = [
        "# Benchmarks",
        "Made by `python benchmarks/tables.py` from `benchmarks/results/*.json`, which hold every raw timing. Ratios "
        "compare programs that were timed in turns within one run.",
    ]
    for name, write in PARTS.items():
        file = RESULTS / f"{name}.json"
        if file.exists():
            parts.append(write(json.loads(file.read_text())).strip())
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write_or_check(__doc__, {PAGE: page})
