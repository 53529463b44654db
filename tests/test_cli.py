"""The command line: help, results on stdout alone, and for every user's mistake a message and exit code 2."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

import contrastill
import warm
from contrastill import Distillation, EmbeddingDistillation, Evaluation, Finetuning
from contrastill.cli import app
from contrastill.settings import LanguageDistillation, LanguageFinetuning, SuiteEvaluation

COMMANDS = ("finetune", "distill", "pretrain", "contrast", "study", "evaluate", "doctor", "methods")
QUICK = ["--epochs", "1", "--checks", "2", "--batch-size", "8", "--precision", "fp32", "--max-length", "16"]
SMALL = ["--student", "1/16/4/32", "--learning-rate", "0.003"]
CLASSES = {"calm": ["still", "quiet", "soft"], "loud": ["bang", "shout", "roar"]}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{n}" for n in range(20)), *(w for ws in CLASSES.values() for w in ws)]


def contrastill_(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200", "TERM": "dumb"})


def words(text: str) -> str:
    """Without the colours, frames and line breaks that depend on the terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def rows(count: int) -> list[dict[str, str]]:
    names = [list(CLASSES)[n % 2] for n in range(count)]
    return [{"text": f"w{n % 20} {CLASSES[name][n % 3]} w{n % 7}", "label": name} for n, name in enumerate(names)]


def write(path: Path, content: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(content[0]))
        writer.writeheader()
        writer.writerows(content)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """encoder/, data.csv, and by the command line: teacher/ and run/."""
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(home / "encoder")
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(home / "encoder")
    data = write(home / "data.csv", rows(60))
    made = contrastill_("finetune", "--model", home / "encoder", "--data", data, "--out", home / "teacher",
                        *QUICK, "--epochs", 6, "--learning-rate", 0.003, "--json")  # fmt: skip
    assert made.exit_code == 0, made.output
    made = contrastill_("distill", *given(home), "--out", home / "run", *QUICK, *SMALL, "--method", "kd", "--json")
    assert made.exit_code == 0, made.output
    (home / "run.stdout").write_text(made.stdout)
    return home


def given(home: Path) -> list[object]:
    return ["--teacher", home / "teacher/model", "--data", home / "data.csv"]


def refused(result: Result, *said: str) -> None:
    """A user's mistake: exit code 2, the message on stderr, nothing on stdout, no traceback."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for part in said:
        assert part in words(result.stderr)


# ---- help and version ----------------------------------------------------------------------------------------------


def test_help_lists_every_command() -> None:
    result = contrastill_("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert name in result.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "methods"])
def test_the_help_of_a_command_shows_an_example_of_it(name: str) -> None:
    result = contrastill_(name, "--help")
    assert result.exit_code == 0
    assert "Example" in words(result.stdout)
    assert f"contrastill {name}" in words(result.stdout).split("Example", 1)[1]


def test_every_example_in_the_help_is_a_command_with_options_that_exist() -> None:
    import inspect

    from contrastill.cli import cache, deploy, evaluate, study, train

    pattern = r"^ +(?:Example: )?contrastill ((?:cache )?\w+)(.*)$"
    source = "".join(map(inspect.getsource, (cache, deploy, evaluate, study, train)))
    examples = re.findall(pattern, source, re.MULTILINE)
    assert len(examples) >= 14
    assert {"cache build", "cache list", "cache verify", "cache prune"} <= {name for name, _ in examples}
    for name, line in examples:
        options = words(contrastill_(*name.split(), *line.split(), "--help").stdout)
        assert [flag for flag in re.findall(r"--[\w-]+", line) if f"{flag} " not in options] == []


EMBEDDED = ("--method", "disco")


def test_help_gives_every_setting_and_its_default() -> None:
    from dataclasses import fields

    for kind, asked, defaults in (
        (
            Distillation,
            (),
            (
                "lrc_bert; kd with --teacher-outputs or for a student without layers",
                *("good", "32", "stages"),
            ),
        ),
        (EmbeddingDistillation, EMBEDDED, ("disco", "1.0", "128", str(EmbeddingDistillation.learning_rate), "compact")),
    ):
        shown = words(contrastill_("distill", *asked, "--help").stdout)
        for f in fields(kind):
            assert f"--{f.name.replace('_', '-')} " in shown
        for default in ("4L-312", *defaults):
            assert f"[default: {default}]" in shown
        assert shown.count("[required]") == 1  # --out
        for f in fields(kind):
            assert f.metadata["help"].partition(" (")[0][:40] in shown


KINDS: dict[str, dict[type, tuple[object, ...]]] = {
    "distill": {Distillation: (), EmbeddingDistillation: EMBEDDED, LanguageDistillation: ("--method", "gkd")},
    "finetune": {Finetuning: (), LanguageFinetuning: ("--task", "language")},
    "evaluate": {Evaluation: (), SuiteEvaluation: ("--suite", "sts")},
}


@pytest.mark.parametrize("name", KINDS)
def test_help_shows_the_options_of_one_kind_of_run_and_names_the_other(name: str) -> None:
    from dataclasses import fields

    for kind, asked in KINDS[name].items():
        shown = words(contrastill_(name, *asked, "--help").stdout)
        own = {f.name for f in fields(kind)}
        others = {f.name for other in KINDS[name] for f in fields(other)} - own
        options, _, last = shown.partition("Options of ")
        options = options.split("Options", 1)[1]
        assert others
        assert [one for one in sorted(others) if f"--{one.replace('_', '-')} " in options] == []
        assert "; or:" not in options
        assert re.fullmatch(rf"(an? [a-z ]+: contrastill {name} --\w+ \w+ --help( Options of )?)+", last)


@pytest.mark.parametrize(
    "asked",
    [("--method", "leaf"), ("--method=rrd",), ("--texts", "x.txt"), ("--texts=x", "--method", "mine.methods:Mine")],
)
def test_the_options_given_tell_which_help_is_meant(asked: tuple[str, ...]) -> None:
    assert "--pooling " in contrastill_("distill", *asked, "--help").stdout


@pytest.mark.parametrize("asked", [("--method", "kd"), ("--method", "mine.methods:Mine"), ("--data", "x")])
def test_without_them_the_help_is_of_a_task(asked: tuple[str, ...]) -> None:
    assert "--perturb " in contrastill_("distill", "--help", *asked).stdout


def test_the_methods_for_embeddings_are_known_without_importing_them() -> None:
    from contrastill.methods import METHODS
    from contrastill.settings import EMBEDDING_METHODS, LANGUAGE_METHODS, LanguageDistillation
    from contrastill.training import distillation

    assert tuple(sorted(n for n in METHODS if distillation(n) is EmbeddingDistillation)) == EMBEDDING_METHODS
    assert tuple(sorted(n for n in METHODS if distillation(n) is LanguageDistillation)) == LANGUAGE_METHODS


@pytest.mark.parametrize(
    "args",
    [
        *("distill", "distill --method disco", "distill --method gkd", "finetune --task language"),
        *("evaluate --suite sts", "predict", "label", "cache build"),
    ],
)
def test_help_is_shown_without_torch(args: str) -> None:
    code = (
        "import sys\nfrom contrastill.cli import app\n"
        f"try:\n    app({[*args.split(), '--help']!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("flag", ["--seed", "--dropout"])
def test_help_gives_a_default_of_0_too(flag: str) -> None:
    shown = words(contrastill_("distill", *EMBEDDED, "--help").stdout)
    assert re.search(rf"{flag} <\w+> [^\[]*\[default: 0(\.0)?\]", shown)


def test_version_is_the_package_s() -> None:
    result = contrastill_("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, contrastill.__version__)


def test_without_a_command_there_is_help() -> None:
    assert "distill" in contrastill_().output


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from contrastill.cli import app; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# ---- results -------------------------------------------------------------------------------------------------------


def test_json_is_all_there_is_on_stdout(home: Path) -> None:
    result = json.loads((home / "run.stdout").read_text())
    assert result["folder"] == str(home / "run")
    assert result["saved"] == str(home / "run/student")
    assert {key: result[key] for key in ("student", "teacher")} == {
        key: json.loads((home / "run/metrics.json").read_text())[key] for key in ("student", "teacher")
    }


def test_nothing_is_written_past_python_s_stdout(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As libraries and C code do, which CliRunner does not see."""
    contrastill_("distill", "--from", home / "run/run.json", "--out", home / "past", "--json")
    assert capfd.readouterr().out == ""


def test_without_json_a_table_is_printed(home: Path) -> None:
    result = contrastill_("distill", *given(home), "--out", home / "table", *QUICK, *SMALL, "--method", "kd")
    assert result.exit_code == 0
    for part in ("teacher", "student", "parameters", "kept of the teacher", str(home / "table/student")):
        assert part in words(result.stdout)


def test_evaluate_scores_a_model(home: Path) -> None:
    common = ["evaluate", "--model", home / "run/student", "--data", home / "data.csv", "--split", "dev"]
    result = json.loads(contrastill_(*common, "--max-length", 16, "--json").stdout)
    expected = json.loads((home / "run/metrics.json").read_text())["student"]
    assert result["metrics"] == expected["dev"]["metrics"]
    assert result["parameters"] == expected["parameters"]
    shown = contrastill_(*common, "--max-length", 16).stdout
    assert f"accuracy {result['metrics']['accuracy']:.4f}" in shown


def test_methods_lists_every_method_with_paper_stages_and_settings() -> None:
    from contrastill import METHODS

    result = json.loads(contrastill_("methods", "--json").stdout)
    assert list(result) == list(METHODS)
    assert result["lrc_bert"]["settings"]["temperature"] == 1.1
    assert result["lrc_bert"]["stages"]["joint"]["weights"] == {"cos_nce": 1.0, "soft": 1.0, "hard": 3.0}
    assert "arXiv:2012.07335" in result["lrc_bert"]["paper"]
    shown = contrastill_("methods").stdout
    for name in METHODS:
        assert f"{name}: " in shown


def test_methods_tells_of_those_that_are_named_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.loads(contrastill_("methods", "--json").stdout)
    named = json.loads(contrastill_("methods", "minilm", "kd", "--json").stdout)
    assert list(named.items()) == [("minilm", whole["minilm"]), ("kd", whole["kd"])]
    assert contrastill_("methods", "kd").stdout.startswith("kd: Knowledge distillation")
    refused(contrastill_("methods", "kd", "tinybret"), "tinybret", "tinybert")
    code = 'from contrastill.methods import KD\n\n\nclass Own(KD):\n    """"""\n'
    (tmp_path / "own_method.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    own = json.loads(contrastill_("methods", "own_method:Own", "--json").stdout)["own_method:Own"]
    assert (own["settings"], own["paper"], own["measured"]) == (whole["kd"]["settings"], "", [])


def test_methods_tells_how_often_a_teacher_runs_and_what_was_kept() -> None:
    result = json.loads(contrastill_("methods", "--json").stdout)
    ran = {name: result[name]["teacher"] for name in ("finetune", "kd", "mixkd", "gkd", "atkd", "okd")}
    assert {name: said.split(";")[0].split(",")[0] for name, said in ran.items()} == {
        "finetune": "never",
        "kd": "once on each text",
        "mixkd": "in every step",
        "gkd": "once on each given text",
        "atkd": "once on each text",
        "okd": "in every step",
    }
    glue = next(one for one in result["lrc_bert"]["measured"] if one["on"] == "CoLA, from a weak start")
    assert glue["seeds"] >= 5
    assert f"{glue['kept']:.1%} of the teacher's score on {glue['on']} ({glue['seeds']} seeds)" in words(
        contrastill_("methods").stdout
    )


def test_doctor_describes_the_machine() -> None:
    result = contrastill_("doctor", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["machine"]["torch"].startswith("2.")
    assert "checks" not in json.loads(result.stdout)
    assert "cpu" in contrastill_("doctor").stdout


def test_doctor_checks_a_run_without_making_one(home: Path, tmp_path: Path) -> None:
    result = contrastill_(
        "doctor", *given(home), "--student", "1/16/4/32", "--max-length", 16, "--batch-size", 8, "--json"
    )
    assert result.exit_code == 0, result.output
    checks = {check["name"]: check["ok"] for check in json.loads(result.stdout)["checks"]}
    assert checks["teacher has learnt the task"]
    assert checks["dry run"]
    assert not (tmp_path / "run.json").exists()


def test_doctor_fails_where_a_run_would(home: Path) -> None:
    result = contrastill_("doctor", *given(home), "--student", "1/16/4/32", "--max-length", 100)
    assert result.exit_code in (1, 2)
    assert "64" in words(result.output)


def test_doctor_takes_a_student_that_fits_the_teacher_and_says_which(home: Path) -> None:
    result = contrastill_("doctor", *given(home), "--max-length", 16, "--batch-size", 8, "--json")
    assert result.exit_code == 0, result.output
    seen = {check["name"]: check["seen"] for check in json.loads(result.stdout)["checks"] if not check["ok"]}
    assert seen["student fits"] == "the default, 4L-312, does not fit this teacher; checked with 1L: give --student 1L"


def test_doctor_wants_data_of_a_teacher_that_tells_none(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "teacher/model", tmp_path / "alone")
    refused(contrastill_("doctor", "--teacher", tmp_path / "alone"), "--data")
    assert contrastill_("doctor", "--teacher", home / "teacher").exit_code in (0, 1)


# ---- texts without labels ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sentences") / "sentences.txt"
    path.write_text("\n".join(f"w{n % 20} still w{n % 7} w{n % 11} roar" for n in range(60)))
    return path


def test_a_sentence_embedding_run_and_what_it_prints(home: Path, sentences: Path, tmp_path: Path) -> None:
    common = ["distill", "--method", "disco", "--teacher", home / "encoder", "--texts", sentences, *QUICK, *SMALL,
              "--set", "queue=16", "--dropout", 0.1]  # fmt: skip
    result = contrastill_(*common, "--out", tmp_path / "a", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["saved"] == str(tmp_path / "a/student")
    assert found["metric"] == "agreement"
    record = json.loads((tmp_path / "a/run.json").read_text())["settings"]
    assert (record["teacher"], record["texts"]) == ([str(home / "encoder")], [str(sentences)])
    table = contrastill_("distill", "--from", tmp_path / "a/run.json", "--out", tmp_path / "b", "--pooling", "cls")
    assert table.exit_code == 0, table.output
    for part in (
        "sentence embeddings",
        "teacher",
        "student",
        "dev agreement",
        "parameters",
        str(tmp_path / "b/student"),
    ):
        assert part in words(table.stdout)
    assert json.loads((tmp_path / "b/run.json").read_text())["settings"]["pooling"] == "cls"
    again = contrastill_("distill", "--resume", tmp_path / "a", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == found


def test_a_general_student_and_what_is_printed(home: Path, sentences: Path, tmp_path: Path) -> None:
    common = ["pretrain", "--teacher", home / "encoder", "--texts", sentences, *QUICK, *SMALL]
    result = contrastill_(*common, "--out", tmp_path / "a", "--half", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["task"] == "general distillation"
    table = contrastill_("pretrain", "--from", tmp_path / "a/run.json", "--out", tmp_path / "b", "--no-half")
    assert table.exit_code == 0, table.output
    for part in ("general distillation", "dev loss", "parameters", str(tmp_path / "b/student")):
        assert part in words(table.stdout)
    small, large = ((tmp_path / name / "student/model.safetensors").stat().st_size for name in ("a", "b"))
    assert small < 0.7 * large
    refused(contrastill_("pretrain", "--resume", tmp_path / "a", "--seed", 3), "--seed")


def test_the_methods_for_sentence_embeddings_are_listed_with_their_settings() -> None:
    result = json.loads(contrastill_("methods", "--json").stdout)
    assert set(result["disco"]["settings"]) == {"queue", "temperature", "least_temperature"}
    assert result["leaf"]["settings"] == {}
    assert result["congen"]["stages"]["distil"]["weights"] == {"congen": 1.0}


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "missing --out"),
        (("--out", "o"), "expected one of --teacher (a model) and --teacher-outputs"),
        (("--teacher", "t", "--out", "o"), "--data"),
        (("--teacher", "t", "--data", "d"), "--out"),
    ],
)
def test_required_options_that_are_missing_are_named(args: tuple[str, ...], said: str) -> None:
    refused(contrastill_("distill", *args), said)


def test_required_options_of_the_other_commands_are_named() -> None:
    refused(contrastill_("finetune", "--data", "d", "--out", "o"), "--model")
    refused(contrastill_("evaluate", "--data", "d"), "--model")


@pytest.mark.parametrize(
    ("args", "foreign"),
    [
        (("--method", "disco", "--data", "x"), "--data"),
        (("--method", "disco", "--texts", "x", "--stages", "distil=1", "--perturb", "none"), "--perturb, --stages"),
        (("--method", "kd", "--texts", "x"), "--texts"),
        (("--texts", "x"), "--texts"),  # of the method that is the default
        (("--data", "x", "--pooling", "cls", "--dropout", 0), "--dropout, --pooling"),
    ],
)
def test_an_option_of_the_other_kind_of_distillation_is_refused(args: tuple[object, ...], foreign: str) -> None:
    result = contrastill_("distill", "--teacher", "t", "--out", "o", *args)
    kinds = ["a distillation on a task", "a distillation of sentence embeddings"]
    own, other = kinds if "disco" not in args else kinds[::-1]
    refused(result, f"error: {foreign}: expected options of {own}, got those of {other}; add --method ")


def test_a_teacher_given_twice_to_a_method_that_takes_one_is_refused() -> None:
    given_twice = ["--teacher", "a", "--teacher", "b", "--data", "d", "--out", "o"]
    refused(contrastill_("distill", *given_twice), "--teacher: expected one, got 2")


def test_what_a_sentence_embedding_run_lacks_is_named() -> None:
    refused(contrastill_("distill", "--method", "disco"), "missing --out")
    refused(
        contrastill_("distill", "--method", "disco", "--out", "o"), "one of --teacher (a model) and --teacher-outputs"
    )
    refused(contrastill_("distill", "--method", "disco", "--out", "o", "--teacher", "t"), "missing --texts")
    refused(contrastill_("pretrain", "--out", "o"), "--teacher, --texts")


def test_the_method_of_the_record_says_what_kind_of_run_is_repeated(home: Path, tmp_path: Path) -> None:
    refused(
        contrastill_("distill", "--from", home / "run/run.json", "--out", tmp_path, "--pooling", "cls"), "--pooling"
    )
    record = {"settings": {"method": "leaf", "teacher": ["./none"], "texts": ["./none.txt"], "out": "o"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    common = ["distill", "--from", tmp_path / "run.json", "--out", tmp_path / "run"]
    refused(contrastill_(*common, "--data", "x"), "--data")
    refused(contrastill_(*common, "--pooling", "cls"), "./none")


OPTIONS: list[tuple[list[object], list[str]]] = [
    (["--method", "magic"], ["magic", "lrc_bert"]),
    (["--set", "temprature=2"], ["temprature", "temperature"]),
    (["--set", "temperature=warm"], ["temperature", "a number above 0", "warm"]),
    (["--set", "temperature=inf"], ["temperature", "a number above 0", "inf"]),
    (["--set", "temperature=2", "--set", "temperature=3"], ["--set", "once", "'temperature'"]),
    (["--set", "temperature"], ["--set", "name=value"]),
    (["--stages", "representation"], ["--stages", "name=value"]),
    (["--stages", "first=0.5", "--stages", "second=0.5"], ["representation", "joint"]),
    (["--stages", "representation=0.9", "--stages", "joint=0.9"], ["sum to 1"]),
    (["--stages", "representation=x", "--stages", "joint=0.9"], ["x"]),
    (["--student", "tiny"], ["tiny", "4L-312"]),
    (["--student", "9L"], ["9"]),
    (["--student", "2/30/4/64"], ["30"]),
    (["--start", "nowhere"], ["nowhere"]),
    (["--perturb", "l1"], ["l2-per-token"]),
    (["--schedule", "cosine"], ["cosine", "linear"]),
    (["--precision", "fp8"], ["fp8", "bf16"]),
    (["--accumulate", "2"], ["--accumulate", "--batch-size"]),
    (["--batch-size", "0"], ["--batch-size"]),
    (["--epochs", "-1"], ["--epochs", "above 0"]),
    (["--epochs", "nan"], ["--epochs", "above 0", "nan"]),
    (["--epochs", "1e308"], ["--epochs", "at most 100,000"]),
    (["--out", "x" * 300], ["--out", "255 bytes"]),
    (["--max-length", "2000"], ["64"]),
    (["--max-length", "0"], ["--max-length"]),
    (["--unlabelled", "none.txt"], ["none.txt"]),
    (["--dev", "none.csv"], ["none.csv"]),
    (["--report-to", "magic"], ["magic"]),
    (["--task", "poetry"], ["poetry"]),
]


@pytest.mark.parametrize(("args", "said"), OPTIONS, ids=lambda value: " ".join(map(str, value)))
def test_an_option_that_cannot_be_is_refused(home: Path, tmp_path: Path, args: list[object], said: list[str]) -> None:
    refused(contrastill_("distill", *given(home), "--out", tmp_path / "run", *QUICK, *SMALL, *args), *said)


def test_nothing_is_deleted_for_a_number_of_days_that_cannot_be(tmp_path: Path) -> None:
    for days in ("-1", "nan", "inf", "1e9"):
        refused(
            contrastill_("cache", "prune", "--cache", tmp_path, "--unused-days", days), "--unused-days", "0 to 36,500"
        )


def test_the_help_and_the_list_of_methods_show_ranges() -> None:
    shown = words(contrastill_("distill", *EMBEDDED, "--help").stdout)
    for given in ("[0 < x <= 100,000]", "[0 <= x < 1]", "[1 <= x <= 1,000,000]"):
        assert given in shown
    listed = json.loads(contrastill_("methods", "--json").stdout)
    assert listed["kd"]["ranges"]["alpha"] == {"at_least": 0, "at_most": 1}
    assert listed["lrc_bert"]["ranges"]["layer_map"] == {"choices": ["uniform", "skip", "last"]}
    printed = words(contrastill_("methods").stdout)
    for setting in (
        "alpha=0.5 [0 <= x <= 1]",
        "layer_map=uniform [uniform | skip | last]",
        "relative=False [true | false]",
    ):
        assert setting in printed


def test_an_option_that_is_none_is_refused_and_one_alike_is_named(home: Path, tmp_path: Path) -> None:
    result = contrastill_("distill", *given(home), "--out", tmp_path / "run", "--epoch", 3)
    assert result.exit_code == 2
    assert "--epochs" in words(result.output)


def test_a_word_for_a_number_is_refused(home: Path, tmp_path: Path) -> None:
    result = contrastill_("distill", *given(home), "--out", tmp_path / "run", "--epochs", "many")
    assert result.exit_code == 2
    assert "--epochs" in words(result.output)


GOOD = "text,label\nw1 bang,loud\nw2 soft,calm\n"
DATA: dict[str, tuple[str | bytes | None, list[str]]] = {
    "there_is_no_file": (None, ["check the path"]),
    "a_column_is_missing": ("words,label\nw1,loud\nw2,calm\n", ["words"]),
    "the_label_is_missing": ("text,mood\nw1,loud\nw2,calm\n", ["mood"]),
    "labels_are_lists": ("text,label\nw1,\"['loud', 'calm']\"\nw2,\"['calm']\"\n", ["'loud', 'calm'"]),
    "there_is_one_class": ("text,label\nw1 a,loud\nw2 b,loud\nw3 c,loud\n", ["at least two", "loud"]),
    "the_file_is_empty": ("", ["empty"]),
    "the_file_is_not_utf_8": ("text,label\nw1 é,loud\nw2,calm\n".encode("latin-1"), ["--encoding latin-1"]),
    "the_classes_are_others": ("text,label\nw1 a,blue\nw2 b,red\nw3,blue\nw4,red\n", ["blue"]),
    "the_rows_are_too_few": ("text,label\nw1 a,loud\nw2 b,calm\n", []),
    "a_text_is_empty": ("text,label\n,loud\nw2,calm\n", ["line 2"]),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_used_is_refused(home: Path, tmp_path: Path, name: str) -> None:
    content, said = DATA[name]
    path = tmp_path / "given.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = contrastill_("distill", "--teacher", home / "teacher/model", "--data", path, "--out", tmp_path / "run",
                          *QUICK, *SMALL)  # fmt: skip
    refused(result, *said)


def test_labels_that_are_json_lists_are_refused(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text('{"text": "w1", "label": ["loud", "calm"]}\n{"text": "w2", "label": ["calm"]}\n')
    words = ["--teacher", home / "teacher/model", "--student", "1L", "--data", path, "--out", tmp_path / "run"]
    refused(contrastill_("distill", *words), "label")


def cut(teacher: Path) -> None:
    path = teacher / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def garbage(teacher: Path) -> None:
    (teacher / "model.safetensors").write_bytes(b"not a model at all" * 100)


def empty(teacher: Path) -> None:
    (teacher / "model.safetensors").write_bytes(b"")


def no_weights(teacher: Path) -> None:
    (teacher / "model.safetensors").unlink()


def pickled(teacher: Path) -> None:
    (teacher / "model.safetensors").unlink()
    torch.save({}, teacher / "pytorch_model.bin")


def no_config(teacher: Path) -> None:
    (teacher / "config.json").unlink()


def broken_config(teacher: Path) -> None:
    (teacher / "config.json").write_text('{"model_type": "bert",')


def unknown_kind(teacher: Path) -> None:
    (teacher / "config.json").write_text('{"model_type": "abacus"}')


def other_shape(teacher: Path) -> None:
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))


def missing_layer(teacher: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = {
        k: v for k, v in load_file(teacher / "model.safetensors").items() if not k.startswith("bert.encoder.layer.1")
    }
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})


def missing_head(teacher: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = {k: v for k, v in load_file(teacher / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})


def no_tokenizer(teacher: Path) -> None:
    for path in teacher.glob("*token*"):
        path.unlink()


def broken_tokenizer(teacher: Path) -> None:
    (teacher / "tokenizer.json").write_text('{"version":')


def no_padding(teacher: Path) -> None:
    config = json.loads((teacher / "tokenizer_config.json").read_text())
    config.pop("pad_token")
    (teacher / "tokenizer_config.json").write_text(json.dumps(config))
    (teacher / "special_tokens_map.json").unlink(missing_ok=True)


DAMAGES: dict[Callable[[Path], None], str] = {
    cut: "damaged",
    garbage: "damaged",
    empty: "damaged",
    no_weights: "safetensors",
    pickled: "safetensors",
    no_config: "model",
    broken_config: "config",
    unknown_kind: "abacus",
    other_shape: "config",
    missing_layer: "bert.encoder.layer.1",
    missing_head: "classifier",
    no_tokenizer: "tokenizer",
    broken_tokenizer: "tokenizer",
    no_padding: "padding",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_teacher_that_cannot_be_loaded_whole_is_refused(
    home: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    teacher = shutil.copytree(home / "teacher/model", tmp_path / "teacher")
    damage(teacher)
    result = contrastill_("distill", "--teacher", teacher, "--data", home / "data.csv", "--out", tmp_path / "run",
                          *QUICK, *SMALL)  # fmt: skip
    refused(result, DAMAGES[damage])


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "a/b/c"])
def test_a_teacher_that_is_not_there_is_refused(home: Path, tmp_path: Path, name: str) -> None:
    refused(contrastill_("distill", "--teacher", name, "--data", home / "data.csv", "--out", tmp_path / "run"), name)


def test_a_teacher_that_is_a_file_is_refused(home: Path, tmp_path: Path) -> None:
    refused(
        contrastill_("distill", "--teacher", home / "data.csv", "--data", home / "data.csv", "--out", tmp_path / "run"),
        "data.csv",
    )


def test_a_split_that_is_not_there_is_refused(home: Path) -> None:
    common = ["evaluate", "--model", home / "run/student", "--data", home / "data.csv"]
    refused(contrastill_(*common, "--split", "test"), "train", "dev")
    refused(contrastill_(*common, "--split", "best"), "best")


def test_a_message_with_brackets_is_printed_as_it_is(home: Path, tmp_path: Path) -> None:
    refused(
        contrastill_("distill", "--teacher", tmp_path / "a[red]b[/red]", "--data", "d", "--out", tmp_path / "run"),
        "a[red]b[/red]",
    )


# ---- again, and on -------------------------------------------------------------------------------------------------


def test_from_repeats_a_run_to_the_bit(home: Path) -> None:
    result = contrastill_("distill", "--from", home / "run/run.json", "--out", home / "again", "--json")
    assert result.exit_code == 0, result.output
    first, second = (home / name / "student/model.safetensors" for name in ("run", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_from_takes_changes(home: Path) -> None:
    result = contrastill_("distill", "--from", home / "run/run.json", "--out", home / "changed", "--seed", 3, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads((home / "changed/run.json").read_text())["settings"]
    assert (record["seed"], record["epochs"], record["method"]) == (3, 1.0, "kd")


def test_from_without_out_is_refused(home: Path) -> None:
    refused(contrastill_("distill", "--from", home / "run/run.json"), "--out")


def test_from_a_file_that_is_no_record_is_refused(home: Path, tmp_path: Path) -> None:
    refused(contrastill_("distill", "--from", home / "data.csv", "--out", tmp_path / "run"), "data.csv")
    refused(contrastill_("distill", "--from", tmp_path / "none.json", "--out", tmp_path / "run"), "none.json")


def test_from_a_record_of_another_command_is_refused(home: Path, tmp_path: Path) -> None:
    refused(contrastill_("finetune", "--from", home / "run/run.json", "--out", tmp_path / "run"), "teacher")


def test_resume_of_a_finished_run_shows_its_result(home: Path) -> None:
    result = contrastill_("distill", "--resume", home / "run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((home / "run.stdout").read_text())


def test_resume_with_other_options_is_refused(home: Path) -> None:
    refused(contrastill_("distill", "--resume", home / "run", "--epochs", 3), "--epochs")


def test_resume_with_from_is_refused(home: Path) -> None:
    refused(contrastill_("distill", "--resume", home / "run", "--from", home / "run/run.json"), "--from")


def test_resume_by_the_wrong_command_is_refused(home: Path) -> None:
    refused(contrastill_("finetune", "--resume", home / "run"))


def test_resume_of_what_is_no_run_is_refused(tmp_path: Path) -> None:
    refused(contrastill_("distill", "--resume", tmp_path), str(tmp_path))


def test_a_folder_in_use_is_refused_and_overwritten_only_when_asked(home: Path) -> None:
    shutil.copytree(home / "run", home / "used")
    common = ["distill", *given(home), "--out", home / "used", *QUICK, *SMALL, "--method", "kd"]
    refused(contrastill_(*common), "--overwrite", "--resume")
    assert contrastill_(*common, "--overwrite", "--seed", 1).exit_code == 0


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------

CLI = [sys.executable, "-m", "contrastill"]
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def test_ctrl_c_saves_and_prints_the_command_that_goes_on(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "a run"  # with a space: what is printed is to be pasted
    args = [
        "distill",
        *map(str, given(home)),
        "--out",
        str(out),
        *QUICK,
        *SMALL,
        "--epochs",
        "2000",
        "--checks",
        "1000",
    ]
    process = warm.Popen([*CLI, *args, "--json"], env=QUIET, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 100
    while not list(out.glob("checkpoints/*/complete.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "Traceback" not in stderr
    assert f"contrastill distill --resume '{out}'" in words(stderr)


def test_ctrl_c_before_training_ends_without_a_traceback(home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from contrastill.training import run as runs

    def pressed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["contrastill.training.run"], "check_data", pressed)
    assert runs is not None
    result = contrastill_("distill", *given(home), "--out", tmp_path / "run", *QUICK, *SMALL)
    assert result.exit_code == 130
    assert "stopped" in result.stderr
    assert "Traceback" not in result.stderr
