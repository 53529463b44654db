"""The page of benchmarks says what the results say, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_made_from_the_results():
    made = subprocess.run([sys.executable, ROOT / "benchmarks" / "tables.py", "--check"], check=False)
    assert made.returncode == 0, "run: python benchmarks/tables.py"


def test_every_result_names_its_command_and_its_machine():
    results = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    assert len(results) >= 5
    for path in results:
        if path.stem.startswith("banking77"):
            continue  # runs, not timings: each row has its settings
        found = json.loads(path.read_text())
        assert found["command"], path.name
        assert found["machine"]["cpu"], path.name
