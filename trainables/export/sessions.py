"""ONNX Runtime for serving."""

from pathlib import Path
from typing import Any


def open_session(path: Path, threads: int) -> Any:
    """Load the network at `path`; it computes on the CPU, with this number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Busy-waiting threads would take processor time from the threads that read requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
