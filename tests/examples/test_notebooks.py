"""Every notebook of examples/ runs from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": EXAMPLES.parent}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    last = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert float(last) < 1e-4, f"the export differs from the notebook by {last}"


def test_notebooks_are_committed_without_output():
    for path in EXAMPLES.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs"), f"{path.name}: clear the output before committing"
