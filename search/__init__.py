"""The search: spaces, algorithms, schedulers, the journal, MLflow tracking and reports.

The modules of this folder are the commands (`python -m search`) and what they share.
"""

import sys
from importlib.util import find_spec

if sys.argv[:1] == ["-m"] and find_spec("ray") is None:  # a command, by a Python without packages
    sys.exit(
        f"error: the packages of this project are not installed in {sys.executable}. Go to the "
        "folder of the project, and use its environment: source .venv/bin/activate"
    )
