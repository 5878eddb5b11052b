"""The source of a trained model, from the options of a command line."""

import argparse
from dataclasses import replace

from search.cli.prompt import resolve_or_ask
from search.trained.source import ModelSource


def model_source(args: argparse.Namespace, name: str) -> ModelSource:
    """Build the source of a model from its name and the options.

    If the name is that of no search, but close to one, the user is asked whether that is meant.

    Raises:
        NoSuchSearch: it names a search that does not exist.
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
