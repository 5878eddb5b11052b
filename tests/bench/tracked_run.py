"""`search.run`, and what its MLflow thread has cost.

Seconds of CPU, written as JSON to the file that $BENCH_TRACKER names.
"""

import json
import os
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from search import run
from search.tracking import tracker


def main() -> int:
    """Run the search with the thread's clock read at its end, and after each import of MLflow."""
    cost = {"thread_s": 0.0, "import_s": 0.0}
    follow, prepare = tracker.Tracker._run, tracker.Runs.__init__

    def followed(tracker: tracker.Tracker) -> None:
        follow(tracker)
        cost["thread_s"] = time.thread_time()

    def prepared(runs: tracker.Runs, *args: Any, **options: Any) -> None:
        began = time.thread_time()
        prepare(runs, *args, **options)
        cost["import_s"] += time.thread_time() - began

    with (
        patch.object(tracker.Tracker, "_run", followed),
        patch.object(tracker.Runs, "__init__", prepared),
    ):
        code = run.main()
    Path(os.environ["BENCH_TRACKER"]).write_text(json.dumps(cost))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
