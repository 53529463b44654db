"""A task is its file, a line in the registry, and its places in settings, answers and docs: none may be missing."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from contrastill.answers import ANSWERS
from contrastill.data.schema import METRICS
from contrastill.settings import DataSource
from contrastill.tasks import LABELLED, TASKS, Task

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "tasks.md").read_text(encoding="utf-8")
FILES = ROOT / "src" / "contrastill" / "tasks"
SHARED = {"__init__", "base", "labelled"}
"""Files of the package that are no task."""


def test_each_task_is_one_file_and_each_file_one_task():
    homes = {Path(inspect.getfile(cls)).stem for cls in TASKS.values()}
    assert len(homes) == len(TASKS)
    assert homes == {file.stem for file in FILES.glob("*.py")} - SHARED
    for cls in TASKS.values():
        here = [one for one in vars(inspect.getmodule(cls)).values() if inspect.isclass(one) and issubclass(one, Task)]
        assert [one for one in here if one.__module__ == cls.__module__] == [cls]


@pytest.mark.parametrize("name", TASKS)
def test_each_task_has_a_page_and_a_row_of_docs(name):
    assert (DOCS / "tasks" / f"{name}.md").is_file()
    assert re.search(rf"^\| `{name}` \|.*\(tasks/{name}\.md\) \|$", PAGE, re.MULTILINE)


def test_docs_name_no_task_that_is_not_there():
    assert set(re.findall(r"^\| `(\w+)` \| (?:a|one|any|entities|texts|layers)", PAGE, re.MULTILINE)) == set(TASKS)


@pytest.mark.parametrize("name", LABELLED)
def test_each_task_of_labels_has_a_setting_metrics_and_an_answer(name):
    setting = next(field for field in fields(DataSource) if field.name == "task")
    assert f"'{name}'" in setting.metadata["help"]
    assert tuple(METRICS[name]) == tuple(LABELLED[name].known_metrics)
    assert ANSWERS[name].task == name


@pytest.mark.parametrize("name", LABELLED)
def test_each_metric_of_a_task_is_on_its_page(name):
    section = (DOCS / "tasks" / f"{name}.md").read_text(encoding="utf-8").lower()
    for metric in LABELLED[name].known_metrics:
        assert metric in section, metric
