"""Every notebook runs from top to bottom."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.ray
@pytest.mark.slow(60)
@pytest.mark.parametrize(
    "path",
    [NOTEBOOKS[0], *(pytest.param(path, marks=pytest.mark.long) for path in NOTEBOOKS[1:])],
    ids=lambda path: path.name,
)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as sockets:  # another process may take a port before the kernel does
        NotebookClient(
            book,
            timeout=900,
            resources={"metadata": {"path": str(tmp_path)}},
            kernel_name=_own_kernel(),
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
        ).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]


def _own_kernel() -> str:
    """Return the kernel's name: this Python's own, whatever kernels the machine has."""
    assert Path(sys.prefix, "share", "jupyter", "kernels", "python3").is_dir(), (
        "ipykernel is not installed in this environment"
    )
    return "python3"
