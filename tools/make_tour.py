"""Run the notebook examples/tour.ipynb and keep what its cells give, without metadata of the machine that ran it.

Run it from anywhere: python tools/make_tour.py [--check]. With --check nothing is written: it is said whether the
notebook runs. It needs nbclient and ipykernel (pip install -e '.[test]').
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

TOUR = Path(__file__).parents[1] / "examples" / "tour.ipynb"


def run(path: Path, folder: Path) -> Any:
    """Run a notebook in a kernel of this interpreter and give it with its outputs.

    Args:
        path: The notebook.
        folder: An empty folder for the kernel's description and as its working directory.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    spec = folder / "kernels" / "tour"  # a fresh environment need not have described its own
    spec.mkdir(parents=True)
    command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "--log-level=40", "-f"]
    path_of_modules = os.pathsep.join(filter(None, sys.path))
    described = {
        "argv": [*command, "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
        "env": {"PYTHONPATH": path_of_modules},
    }
    (spec / "kernel.json").write_text(json.dumps(described))
    specs = KernelSpecManager(kernel_dirs=[str(spec.parent)], ensure_native_kernel=False)
    manager = AsyncKernelManager(kernel_name="tour", kernel_spec_manager=specs)
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, km=manager, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def tidy(notebook: Any) -> str:
    """Give a notebook's text without times and versions of the machine that ran it."""
    import nbformat

    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text.rstrip("\n") + "\n"


def main() -> None:
    """Run the notebook and write it, or say with --check that it runs."""
    with tempfile.TemporaryDirectory() as folder:
        text = tidy(run(TOUR, Path(folder)))
    if "--check" not in sys.argv[1:]:
        TOUR.write_text(text)
    print(f"{TOUR.name} runs: {len(text) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
