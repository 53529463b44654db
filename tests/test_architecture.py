"""Which part may import which, what is public, and what every method needs beside its file."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import contrastill
from contrastill.methods import METHODS

PACKAGE = Path(contrastill.__file__).parent
REPOSITORY = PACKAGE.parent.parent
FILES = sorted(PACKAGE.rglob("*.py"))
ROOT = "contrastill"

# Part of the package (a module or folder of its top level) -> the parts it may import. Arrows point down only.
EVERYTHING = {
    "errors",
    "language",
    "sampling",
    "ranges",
    "memory",
    "registry",
    "screen",
    "mapping",
    "alignment",
    "machine",
    "locks",
    "hub",
    "results",
    "settings",
    "shapes",
    "forward",
    "encoder",
    "loading",
    "losses",
    "tasks",
    "methods",
    "processes",
    "teachers",
    "students",
    "data",
    "evaluation",
    "training",
    "report",
    "seal",
    "answers",
    "spans",
    "bundle",
    "vocabulary",
    "exporting",
    "studies",
    "cli",
    ROOT,
}
ALLOWED = {
    "errors": set(),
    "memory": {"errors"},
    "ranges": {"errors"},
    "shapes": {"errors", "ranges"},
    "registry": {"errors", "ranges"},
    "screen": set(),
    "alignment": {"losses"},
    "spans": set(),  # it is copied into bundles
    "mapping": set(),
    "losses": {"losses"},
    "sampling": {"errors", "sampling"},
    "machine": {ROOT},  # for the version
    "locks": {"errors"},
    "hub": {"errors"},
    "growing": {"errors", "locks"},
    "results": {"errors", "seal", "results"},
    "settings": {"errors", "memory", "ranges", "results", "settings", "shapes"},
    "forward": set(),
    "encoder": {"errors", "forward"},
    "language": {"forward"},
    "processes": set(),
    "teachers": {
        "alignment",
        "errors",
        "machine",
        "processes",
        "losses",
        "forward",
        "encoder",
        "language",
        "loading",
        "data",
        "teachers",
    },
    "students": {"errors", "ranges", "shapes", "mapping", "encoder", "loading", "teachers", "students"},
    "tasks": {
        "errors",
        "registry",
        "losses",
        "spans",
        "data",
        "evaluation",
        "language",
        "loading",
        "report",
        "tasks",
    },  # report: for the evidence
    "methods": {
        "losses",
        "mapping",
        "sampling",
        "forward",
        "encoder",
        "language",
        "errors",
        "ranges",
        "registry",
        "tasks",
        "teachers",
        "methods",
    },
    "data": {"alignment", "errors", "hub", "memory", "ranges", "spans", "data"},
    "loading": {"errors", "hub", "results", "seal", "spans", "loading"},
    "evaluation": {"errors", "hub", "machine", "spans", "data", "evaluation"},
    "report": {"errors", "results", ROOT, "report"},  # ROOT: for the version
    "seal": set(),
    "tokenizing": {"errors"},
    "answers": {"errors", "spans"},
    "vocabulary": {"errors", "loading"},
    "bundle": {"errors", "seal", "spans", "tokenizing", "answers"},
    "prediction": {
        "errors",
        "memory",
        "answers",
        "bundle",
        "data",
        "exporting",
        "locks",
        "screen",
        "settings",
        "prediction",
    },
    "labelling": {
        "errors",
        "memory",
        "data",
        "growing",
        "screen",
        "settings",
        ROOT,
        "labelling",
    },  # ROOT: for the version
    "augmenting": {
        "errors",
        "memory",
        "spans",
        "growing",
        "screen",
        "settings",
        "loading",
        "data",
        "teachers",
        "tasks",
        "training",
        "augmenting",
    },
    "serving": {"errors", "settings", "bundle", ROOT, "serving"},  # ROOT: for the version
    "exporting": EVERYTHING - {"cli", "studies"},
    "timing": EVERYTHING - {"cli", "studies", ROOT} | {"bundle", "exporting", "timing"},
    "training": EVERYTHING - {"cli", "studies", "exporting"},
    "studies": EVERYTHING - {"cli"},
    "cli": EVERYTHING | {"prediction"} | {"augmenting", "labelling", "timing", "serving"},
    "api": EVERYTHING - {"cli", "studies"} | {"augmenting", "labelling", "prediction", "serving", "timing"},
    "__main__": {"cli"},
    "__init__": {"errors"},
}
BASES = {"Method", "EmbeddingMethod", "LanguageMethod"}  # what methods are made of; some build on another method
MEANINGLESS = {"utils", "util", "common", "helpers", "helper", "core", "misc", "base_utils"}


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Every (module, name) that a file imports, anywhere in it: ("torch", None), ("contrastill.data", "Task")."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(node.module, alias.name) for alias in node.names]
    return found


def our_parts(path):
    """The parts of the package that a file imports; a name of the package's top counts as what it stands for."""
    parts = set()
    for module, name in imports(path):
        if module == ROOT and name is not None:
            home = contrastill._HOMES.get(name, "training" if name in contrastill.__all__ else name).split(".")[0]
            parts.add(ROOT if name == "__version__" else home)
        elif module == ROOT or module.startswith(ROOT + "."):
            parts.add(module.split(".")[1] if "." in module else ROOT)
    return parts


def test_the_files_looked_at_are_the_whole_package():
    names = {path.relative_to(PACKAGE).as_posix() for path in FILES}
    assert len(names) >= 30
    assert names >= {
        "__init__.py",
        "cli/options.py",
        "encoder.py",
        "teachers/store.py",
        "losses/contrast.py",
        "methods/base.py",
        "methods/lrc_bert.py",
        "methods/embedding.py",
        "methods/disco.py",
        "data/load.py",
        "evaluation/scores.py",
        "training/trainer.py",
    }
    assert {part_of(path) for path in FILES} == set(ALLOWED), "a new part needs a line in ALLOWED"


def test_the_reader_of_imports_sees_all_kinds(tmp_path):
    file = tmp_path / "some.py"
    file.write_text(
        "import contrastill\nimport contrastill.cli as c\n"
        "from contrastill import losses, METHODS, Run, __version__\n"
        "def f():\n    from contrastill.data.load import x\n    import torch.nn\n"
    )
    assert our_parts(file) == {ROOT, "cli", "losses", "methods", "training", "data"}
    assert ("torch.nn", None) in imports(file)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_what_lies_below_it(path):
    above = our_parts(path) - ALLOWED[part_of(path)]
    assert not above, f"{part_of(path)} may import {sorted(ALLOWED[part_of(path)])} of ours, not {sorted(above)}"


def test_losses_import_torch_and_the_standard_library_alone():
    others = {
        (path.name, module)
        for path in FILES
        if part_of(path) in ("losses", "mapping")
        for module, _ in imports(path)
        if module.split(".")[0] not in {*sys.stdlib_module_names, "torch", ROOT}
    }
    assert others == set()


def test_each_part_of_transformers_trainer_is_known_to_the_file_named_after_it():
    homes = {"Trainer": set(), "TrainerCallback": set(), "TrainingArguments": set()}
    for path in FILES:
        for module, name in imports(path):
            if module.split(".")[0] == "transformers":
                for known in homes.keys() & {name}:
                    homes[known].add(path.relative_to(PACKAGE).as_posix())
                assert not module.startswith("transformers.train"), path
        attributes = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
        assert not attributes & set(homes), path
    assert homes["Trainer"] == {"training/trainer.py"}
    assert homes["TrainerCallback"] == {"training/callbacks.py", "training/checkpoints.py"}
    assert homes["TrainingArguments"] == {"training/trainer.py", "training/arguments.py"}


def test_the_trainers_and_losses_of_sentence_transformers_are_known_to_none():
    found = {(module, name) for path in FILES for module, name in imports(path) if module.startswith("sentence_tr")}
    assert ("sentence_transformers", "SentenceTransformer") in found
    assert not [(module, name) for module, name in found if re.search("Train|Loss|loss|sampler", f"{module} {name}")]


def test_no_file_has_a_name_that_says_nothing():
    names = {part.removesuffix(".py") for path in FILES for part in path.relative_to(PACKAGE).parts}
    assert names & MEANINGLESS == set()


# ---- what is public ------------------------------------------------------------------------------------------------


def test_the_public_names_are_these_and_each_can_be_imported():
    assert contrastill.__all__ == [
        "METHODS",
        "Augmentation",
        "Bench",
        "CacheBuild",
        "CachedTeacher",
        "Contrast",
        "Distillation",
        "EmbeddingDistillation",
        "Encoder",
        "Encoding",
        "Evaluation",
        "Export",
        "Finetuning",
        "FrozenEncoder",
        "Interrupted",
        "Labelling",
        "LanguageDistillation",
        "LanguageFinetuning",
        "Method",
        "Perturbed",
        "Prediction",
        "Pretraining",
        "Run",
        "Serving",
        "Stage",
        "Study",
        "SuiteEvaluation",
        "UserError",
        "Verification",
        "augment",
        "bench",
        "build_cache",
        "compare",
        "contrast",
        "distill",
        "evaluate",
        "export",
        "finetune",
        "label",
        "load_task",
        "make_student",
        "predict",
        "pretrain",
        "serve",
        "verify",
    ]
    for name in contrastill.__all__:
        value = getattr(contrastill, name)
        assert value is METHODS or value.__name__ == name
        assert value is METHODS or value.__doc__


COMMANDS = (
    *("finetune", "distill", "contrast", "pretrain", "evaluate", "predict"),
    *("export", "verify", "bench", "serve", "compare", "label", "augment"),
)


def test_the_whole_life_of_a_model_is_public_by_the_names_of_the_commands():
    """Each is a function with keyword settings, and a module of the package by that name would hide it."""
    from contrastill.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(COMMANDS) <= set(contrastill.__all__) & known
    for name in COMMANDS:
        parameters = inspect.signature(getattr(contrastill, name)).parameters.values()
        assert all(one.kind in (one.KEYWORD_ONLY, one.VAR_KEYWORD) for one in parameters) or name == "compare"
        assert name not in {part_of(path) for path in FILES}


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'contrastill' has no attribute 'trainer'"):
        contrastill.trainer  # noqa: B018


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=part_of)
def test_what_a_folder_lists_as_public_exists(path):
    module = import_module(".".join(path.parent.relative_to(PACKAGE.parent).parts))
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), name


# ---- methods -------------------------------------------------------------------------------------------------------


def test_the_registry_holds_each_method_once_under_its_own_name():
    assert {name: cls.name for name, cls in METHODS.items()} == {name: name for name in METHODS}
    assert len(set(METHODS.values())) == len(METHODS) >= 10


def test_every_file_of_methods_that_makes_one_is_in_the_registry():
    registered = {cls.__name__ for cls in METHODS.values()}
    made = {
        node.name
        for path in FILES
        if part_of(path) == "methods"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and {getattr(base, "id", None) for base in node.bases} & (BASES | registered)
    } - BASES
    assert made == registered
    for name, cls in METHODS.items():
        assert cls.__module__ == f"contrastill.methods.{name}", "one paper a file, named as in the registry"


def test_every_method_has_a_section_in_the_papers_page():
    page = REPOSITORY / "docs" / "papers.md"
    headings = [line for line in page.read_text(encoding="utf-8").splitlines() if re.match(r"#+ ", line)]
    missing = [name for name in METHODS if not any(f"`{name}`" in heading for heading in headings)]
    assert missing == [], "write a section: '## Title (`name`)'"


# ---- quick to start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["import contrastill", "import contrastill.cli", "import contrastill.settings"])
def test_the_command_line_starts_without_waiting_for_torch(command):
    heavy = "{'torch', 'transformers', 'datasets', 'pandas', 'sklearn', 'scipy'}"
    code = f"{command}; import sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
