"""What this project does to a process before it trains in it, whatever the module is that does it."""

import importlib


def prepare_process(threads: int) -> None:
    """Prepare this process as a worker of a search is prepared."""
    for name, function in (("trainables.process", "prepare"), ("trainables.threads", "limit_threads")):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        getattr(module, function)(threads)
        return
