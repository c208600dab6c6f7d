"""Run chapters from top to bottom in fresh kernels and save them in normal form.

usage: python tools/normalise.py [notebook ...]     (default: every chapter and solution)

A chapter that fails is left as it was. Afterwards the checksums and the README's contents follow.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.reader import NotJSONError

import navigation
from files import write_whole
from minidiff.book import load
from normal_form import dumps, normal_form, read

ROOT = Path(__file__).resolve().parent.parent
CELL_TIMEOUT_S = 600
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                            "VECLIB_MAXIMUM_THREADS"), "1")


class CellFailed(Exception):
    """A cell raised, took too long or killed its kernel."""


class ThisInterpreter(KernelSpecManager):
    """Knows one kernel: the running Python, whatever kernels the user has installed."""

    def get_kernel_spec(self, kernel_name):
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def execute(nb, folder):
    """Run all code cells of the notebook, in place, in a fresh kernel; the seconds it took."""
    manager = AsyncKernelManager(kernel_spec_manager=ThisInterpreter())
    client = NotebookClient(nb, km=manager, timeout=CELL_TIMEOUT_S, record_timing=False,
                            extra_arguments=["--IPKernelApp.log_level=ERROR"],
                            resources={"metadata": {"path": str(folder)}})
    environment = {**os.environ, **ONE_THREAD}
    environment.pop("MPLBACKEND", None)  # the kernel's own draws figures in the notebook
    with client.setup_kernel(env=environment, cleanup_kc=True):
        start = time.perf_counter()
        for index, cell in enumerate(nb.cells):
            try:
                client.execute_cell(cell, index)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                raise CellFailed(f"cell {index + 1} ({cell.id}): {error}") from None
        return time.perf_counter() - start


def normalise(path, book):
    """Navigate, run and save one notebook; the seconds it took. Raises `CellFailed`."""
    nb = read(path)
    chapter = chapter_at(path, book)
    if chapter:
        nb.cells = navigation.with_navigation(nb.cells, book, chapter)
    nb = normal_form(nb)
    seconds = execute(nb, path.parent)
    write_whole(path, dumps(normal_form(nb)))
    return seconds


def chapter_at(path, book):
    """The manifest's chapter in this file, or None: solutions have no navigation."""
    return next((c for c in book.chapters if path.parts[-2:] == (book.src, c.file)), None)


def notebooks(folder):
    """Every chapter and every solution, sorted."""
    return sorted([*folder.glob("*.ipynb"), *folder.glob("solutions/*.ipynb")])


def checksums(folder):
    """The text of `checksums.txt`, as `sha256sum` writes it: names relative to the folder."""
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  "
                   f"{path.relative_to(folder).as_posix()}\n" for path in notebooks(folder))


def main(files, root=ROOT):
    """Normalise the files, or all; 0 if every cell ran."""
    book = load(root / "book.toml")
    folder = root / book.src
    failures = 0
    for path in [Path(file).resolve() for file in files] or notebooks(folder):
        try:
            seconds = normalise(path, book)
        except (CellFailed, NotJSONError, OSError) as error:
            failures += 1
            print(f"{path.name}: {error}", file=sys.stderr)
        else:
            print(f"{path.name}: ran in {seconds:.1f} s{_remark(seconds, chapter_at(path, book))}")
    tables(root, book)
    return 1 if failures else 0


def tables(root, book):
    """Write what follows from the manifest and the notebooks: checksums, the README's contents."""
    folder = root / book.src
    write_whole(folder / "checksums.txt", checksums(folder))
    if (root / "README.md").exists():
        readme = (root / "README.md").read_text("utf-8")
        write_whole(root / "README.md", navigation.with_contents(readme, book))


def _remark(seconds, chapter):
    if chapter is None:
        return ""
    over = " OVER BUDGET" if seconds > chapter.budget_s else ""
    return f" (book.toml: {chapter.run_s:g} s, at most {chapter.budget_s:g} s){over}"


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        sys.exit(print(__doc__))
    sys.exit(main(sys.argv[1:]))
