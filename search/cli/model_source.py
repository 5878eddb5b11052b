"""The source of a trained model, from the options of a command line."""

import argparse
from dataclasses import replace

from search.cli.prompt import resolve_or_ask
from search.trained.source import ModelSource


def model_source(args: argparse.Namespace, name: str) -> ModelSource:
    """The source of the model of this name, as the options say; asks if a search is mistyped."""
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
