"""The source of a trained model, from the options of a command line."""

import argparse
from dataclasses import replace

from search.cli.prompt import resolve_or_ask
from search.trained.source import ModelSource


def model_source(args: argparse.Namespace, name: str) -> ModelSource:
    """The model of this name, looked for where the options say; ask if a search is mistyped.

    Raises:
        NoSuchSearch: there is no such search, but there are others.
    """
    source = ModelSource(
        name=name,
        storage=args.storage,
        trial=args.trial,
        tracking=args.tracking,
        data_root=args.data_root,
    )
    if not source.is_search:
        return source
    return replace(source, name=resolve_or_ask(name, source.storage))
