"""python -m search.serve MODEL: a trained model over HTTP.

MODEL is a promoted model (models:/NAME@champion, models:/NAME/3), a folder that holds one, or a
search (its chosen model). When the alias moves to another version, that takes over without a
failed request. POST images to /predict; /docs says how.
"""

import argparse
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.cli import Parser, cannot_listen, is_whole, port, seconds, whole_number
from cluster.runtime.session import LOCAL
from search.cli.model_source import model_source
from search.cli.options import place_option
from search.cli.parser import HelpFormatter
from search.journal.store import own_path, storage
from search.process.guard import guarded
from search.serving.messages import Recording, WatchedModel, WorkerSettings
from search.serving.supervisor import ServingPlan, bind_socket, serve
from search.trained.source import REGISTERED, ModelSource
from trainables.errors import ConfigError
from trainables.processors import processors

MOST_WORKERS = 256
BYTES_OF_CORRECTION = 10_000
"""With --open-corrections, strangers may send one correction per this number of --record-bytes.
Each is a small file, which needs one block of 4 KiB on a disk, so all of them need less than half
of --record-bytes.
"""


def share(text: str) -> float:
    """Parse an option's value as a share, above 0 and at most 1.

    Raises:
        argparse.ArgumentTypeError: the text is not a number in this range.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"a share above 0 and at most 1 is needed (got '{text[:80]}')"
        )
    return value


def served_model(source: ModelSource, folder: Path, poll_s: float) -> WatchedModel | Path:
    """Describe the model to serve: a local folder, or a model that is fetched into `folder`.

    Args:
        source: the model that the user names.
        folder: the folder for a fetched model.
        poll_s: the interval between checks of an alias, in seconds.

    Raises:
        ConfigError: the named folder contains no model.
    """
    if source.is_registered or source.is_search:
        return watched_model(source, folder, poll_s)
    if (model_folder := source.local_folder) is None:
        raise ConfigError(f"'{source}' holds no promoted model (a folder with about.json).")
    return model_folder


def watched_model(source: ModelSource, folder: Path, poll_s: float) -> WatchedModel:
    """Describe a model that is fetched into `folder`, and watched if its version may change."""
    return WatchedModel(
        source=str(source),
        into=str(folder),
        storage=str(source.storage),
        trial=source.trial,
        tracking=source.tracking,
        data_root=None if source.data_root is None else str(source.data_root),
        registered=source.registered_name,
        moves=source.has_alias,
        poll_s=poll_s,
    )


def shadow_model(
    args: argparse.Namespace, source: ModelSource, folder: Path
) -> WatchedModel | None:
    """Describe the shadow model, another alias of the served model; None without --shadow.

    Raises:
        ConfigError: the served model is not a registered one, and so has no aliases.
    """
    if args.shadow is None:
        return None
    if not source.registered_name:
        raise ConfigError(
            f"--shadow needs a registered model, and '{args.model}' is not one. Serve "
            "models:/NAME@champion instead."
        )
    return watched_model(source.at_alias(args.shadow), folder, args.poll)


def recording_of(args: argparse.Namespace) -> Recording | None:
    """The place and limits of the records of predictions; None without --record.

    Raises:
        ConfigError: the place is a file.
    """
    if args.record is None:
        return None
    if isinstance(args.record, Path) and args.record.exists() and not args.record.is_dir():
        raise ConfigError(
            f"--record '{args.record}' is a file. Name a folder, or s3://BUCKET/PREFIX."
        )
    most = args.record_bytes // BYTES_OF_CORRECTION if args.open_corrections else None
    return Recording(
        str(args.record), args.record_below, args.record_share, args.record_bytes, most
    )


def served_name(source: ModelSource) -> str:
    """The model's name in responses; that of a registered model has no version or alias."""
    return f"{REGISTERED}/{source.registered_name}" if source.registered_name else str(source)


def on_cluster(args: argparse.Namespace, name: str, model: WatchedModel | Path) -> int:
    """Serve on a running Ray cluster, and return the exit code.

    Raises:
        ConfigError: --address is `LOCAL`, or an option applies only to serving on one machine.
    """
    from search.serving.ray_serve import ClusterDeployment, serve_on_cluster

    if args.address == LOCAL:
        raise ConfigError(f"--address {LOCAL}: leave it out to serve on this machine.")
    if args.shadow is not None or args.workers != 1:
        option = "--shadow" if args.shadow is not None else "--workers"
        remedy = "Use --replicas" if args.shadow is None else "Serve it on one machine"
        raise ConfigError(f"{option} is not for a cluster (--address). {remedy}.")
    settings = WorkerSettings(
        name=name,
        host=args.host,
        descriptor=-1,  # Ray Serve listens
        threads=1,
        delay_s=args.max_delay / 1000,
        record=recording_of(args),
        open_corrections=args.open_corrections,
    )
    deployment = ClusterDeployment(
        settings, args.address, args.port, args.prefix, args.replicas, model
    )
    return serve_on_cluster(deployment)


def replicas(text: str) -> tuple[int, int]:
    """Parse an option's value as the minimum and maximum number of replicas, such as "1:4".

    A single number stands for both.

    Raises:
        argparse.ArgumentTypeError: the text is not a range within 1 to 1000.
    """
    fewest, colon, most = text.partition(":")
    numbers = [fewest, most] if colon else [fewest, fewest]
    if not all(map(is_whole, numbers)) or not 1 <= int(numbers[0]) <= int(numbers[1]) <= 1000:
        raise argparse.ArgumentTypeError(
            f"MIN:MAX replicas are needed, such as 1:4 (got '{text[:80]}')"
        )
    return int(numbers[0]), int(numbers[1])


def prefix(text: str) -> str:
    """Parse an option's value as the URL path of a model on the server, such as "/flowers".

    Raises:
        argparse.ArgumentTypeError: the text is not a path of letters, digits, _ and -.
    """
    if not re.fullmatch("/|(/[A-Za-z0-9_-]+)+", text):
        raise argparse.ArgumentTypeError(
            f"a path of letters, digits, _ and - is needed, such as /flowers (got '{text[:80]}')"
        )
    return text


def command(args: argparse.Namespace) -> int:
    """Serve the model until the process is stopped, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="serve-") as temporary:
        folder = Path(temporary)
        source = model_source(args, args.model)
        name, model = served_name(source), served_model(source, folder / "model", args.poll)
        shadow = shadow_model(args, source, folder / "shadow")
        if args.address is not None:
            return on_cluster(args, name, model)
        try:
            listening = bind_socket(args.host, args.port)
        except OSError as error:
            raise cannot_listen(args.host, args.port, error) from error
        with listening:
            settings = WorkerSettings(
                name=name,
                host=args.host,
                descriptor=listening.fileno(),
                threads=max(1, processors() // args.workers),
                delay_s=args.max_delay / 1000,
                shadow_share=args.shadow_share if shadow is not None else 0.0,
                record=recording_of(args),
                open_corrections=args.open_corrections,
            )
            host, number = listening.getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{number}"
            return serve(
                ServingPlan(settings, address, args.workers, model, shadow), folder, listening
            )


def options() -> argparse.ArgumentParser:
    """Define the arguments of `python -m search.serve`."""
    parser = Parser(
        prog="python -m search.serve", description=__doc__, formatter_class=HelpFormatter
    )
    parser.add_argument(
        "model", metavar="MODEL", help="models:/NAME@champion, a folder, or a search's name"
    )
    place_option(parser)
    parser.add_argument(
        "--port",
        type=port,
        default=8000,
        metavar="N",
        help="0 for any that is free",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines"
    )
    parser.add_argument(
        "--workers",
        type=whole_number(1, MOST_WORKERS, "the number of processes"),
        default=1,
        metavar="N",
        help="how many processes answer",
    )
    parser.add_argument(
        "--max-delay",
        type=whole_number(1, 10_000, "a delay in milliseconds"),
        default=50,
        metavar="MS",
        help="the longest that a batch of images may be computed, for which the next have to wait",
    )
    parser.add_argument(
        "--poll",
        type=seconds,
        default=5.0,
        metavar="S",
        help="seconds between two looks at where an alias is",
    )
    parser.add_argument(
        "--shadow",
        metavar="ALIAS",
        help="another alias of the model, which answers a share of the images for comparison alone",
    )
    parser.add_argument(
        "--shadow-share", type=share, default=0.1, metavar="SHARE", help="of the images"
    )
    model_options(parser)
    record_options(parser)
    cluster_options(parser)
    return parser


def cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for serving on a Ray cluster."""
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="serve on this Ray cluster, by Ray Serve: auto, or HOST:PORT",
    )
    parser.add_argument(
        "--replicas",
        type=replicas,
        default="1:4",
        metavar="MIN:MAX",
        help="on a cluster, how many processes answer, by the load",
    )
    parser.add_argument(
        "--prefix",
        type=prefix,
        default="/",
        metavar="PATH",
        help="on a cluster, where this model stands below the port, such as /flowers",
    )


def model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that locate the model."""
    parser.add_argument(
        "--trial", metavar="TRIAL", help="of a search, another trial than the chosen or best one"
    )
    parser.add_argument(
        "--tracking",
        metavar="URI",
        help="MLflow's tracking URI (default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)",
    )
    parser.add_argument(
        "--data-root",
        type=own_path,
        metavar="DIR",
        help="where a search's data lies now (default: as the search)",
    )


def record_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for recording predictions and images."""
    keeping = Recording("", 0.7, 0.05, 1_000_000_000)
    parser.add_argument(
        "--record",
        type=storage,
        metavar="PLACE",
        help="keep answers and images there, for search.label, search.monitor and search.improve: "
        "a folder, or s3://BUCKET/PREFIX (default: nothing is kept)",
    )
    parser.add_argument(
        "--record-bytes",
        type=whole_number(1_000_000, 10**15, "a number of bytes"),
        default=keeping.limit,
        metavar="N",
        help="of all that is kept; the oldest goes first",
    )
    parser.add_argument(
        "--record-below",
        type=share,
        default=keeping.below,
        metavar="P",
        help="images are kept for whose class the model gives a lower probability",
    )
    parser.add_argument(
        "--record-share",
        type=share,
        default=keeping.share,
        metavar="SHARE",
        help="of the other images that are kept",
    )
    parser.add_argument(
        "--open-corrections",
        action="store_true",
        help="with a --host that other machines reach, take corrections from all of them, one for "
        f"each {BYTES_OF_CORRECTION:,} of --record-bytes at most; they are kept for good, and "
        "search.improve learns from them",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, serve, and return the exit code (see `ExitCode`).

    After SIGTERM the requests that have arrived are answered, and the exit code is 0.
    """
    _open_standard_streams()
    args = options().parse_args(argv)
    return guarded(lambda: command(args))


def _open_standard_streams() -> None:
    """Open the file descriptors 0 to 2 on /dev/null if they are closed, inheritable by workers.

    Otherwise the next opened socket or file would get such a number, and a library's output would
    be written to it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
