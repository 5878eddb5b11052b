"""python -m search.promote NAME: put a search's best network into MLflow's model registry.

From there it can be used without this project.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.cli import Parser
from cluster.errors import Refused
from cluster.secrets import redact
from search.cli.options import HelpFormatter, json_option, storage_option
from search.cli.prompt import search_of
from search.design.experiment import absolute
from search.journal.events import Selected
from search.journal.guessing import AgainstGuessing, Guessing
from search.journal.lease import Held
from search.journal.naming import refuse_cut_off
from search.journal.result import ENDED, SearchResult, TrialResult, checkpoint_of
from search.journal.store import Home, Storage, own_path
from search.process.guard import NoBetterThanGuessing, guarded
from search.process.versions import check_versions
from search.tracking.model_registry import Registered, Registry, check_name
from search.tracking.uri import check_tracking, uri_of
from search.values.message import Blank, Message, Remedy
from search.values.objectives import value_of
from search.values.secrets import refuse, refuse_in_uri
from search.values.wording import DECODED_OTHERWISE
from search.views.guessing import above_chance, against_text
from search.views.metric import tested_value, with_article
from search.views.summary import (
    classes_text,
    figure_text,
    metric_facts,
    param_text,
    primary_facts,
    source_text,
)
from search.views.terminal import Terminal, say
from trainables.catalog.tasks import CLASSIFICATION, Metric
from trainables.config import TrialConfig
from trainables.errors import ConfigError, printable
from trainables.values import Evaluation, Json

if TYPE_CHECKING:
    from trainables.datasets.arrays import Dataset
    from trainables.export.export import Exported

LONGEST_PARAMS = 1000


def command(args: argparse.Namespace) -> int:
    """Promote the best network of a search and say so; return the exit code.

    Everything that can be checked is checked before the network is exported and registered.
    """
    kept = search_of(args)
    name = args.model or args.name
    check_name(name)
    refuse("--model", name)
    refuse_in_uri(args.tracking or "")
    result = SearchResult.read(kept.opened())
    chosen = answer(result, kept, args.storage, args.trial)
    if not args.anyway:
        refuse_at_chance(result, chosen, args.storage)
    uri = uri_of(result, args.tracking)
    check_versions()
    check_tracking(uri)
    registry = Registry(uri, result, args.storage)
    say(
        Terminal(stderr=True),
        f"exporting {chosen.trial} and comparing what it says of the validation images",
    )
    with tempfile.TemporaryDirectory(prefix="promote-") as temporary:
        config = config_of(chosen, args.data_root or Path(result.started.data["root"]))
        exported = exported_from(
            result,
            chosen.trial,
            config,
            kept.read(str(checkpoint_of(chosen, Path()))),
            Path(temporary) / "classifier",
            onnx=args.onnx,
        )
        version = registry.register(
            name, exported, description(result, chosen, exported), tags(result, chosen)
        )
    registered = registry.give(name, version)
    console = Terminal()
    for line in lines(result, chosen, exported, registered, uri):
        say(console, line)
    if args.json:
        found = above_chance(against_guessing(result, chosen))
        print(json.dumps({**as_json(chosen, exported, registered), "above_chance": found}))
    return 0


def answer(
    result: SearchResult, kept: Home, storage: Storage, trial: str | None = None
) -> TrialResult:
    """Return the trial whose network is promoted, by default the search's best.

    The search must have ended; an interrupted one counts as ended.

    Raises:
        Held: a driver has the search.
        Refused: the search, or its selection, was cut off.
        ConfigError: no trial has finished an epoch, or the given one has not.
    """
    if holder := kept.holder():
        raise Held(
            Message(
                f"the search '{result.name}' is being run by {holder}. "
                "Wait for its end, or stop it first; if it lives no more: ",
                Remedy("resume", result.name, storage),
            )
        )
    refuse_cut_off(result, storage)
    if trial is not None and trial not in {known.trial for known in result.ranking}:
        raise ConfigError(
            Message(
                f"--trial '{trial[:80]}': '{result.name}' has no such trial with a result. See ",
                Remedy("status", result.name, storage, options={"all": True}),
            )
        )
    if (chosen := result.trials[trial] if trial is not None else result.chosen) is None:
        raise ConfigError(
            Message(
                f"the search '{result.name}' has no trial with a result, so there is nothing to "
                "promote. See ",
                Remedy("status", result.name, storage),
            )
        )
    if chosen.is_freed and trial is None:
        raise ConfigError(
            Message(
                f"the checkpoints of {chosen.trial}, the answer of '{result.name}', were removed. "
                "Promote another trial: ",
                Remedy("promote", result.name, storage, options={"trial": Blank("TRIAL")}),
                " (which there are: ",
                Remedy("status", result.name, storage, options={"all": True}),
                ")",
            )
        )
    if chosen.is_freed:
        raise ConfigError(
            Message(
                f"--trial {chosen.trial}: its checkpoints were removed, as of a trial that goes no "
                "further. The search's answer is there: ",
                Remedy("promote", result.name, storage),
                "; a search with --keep all keeps every trial's.",
            )
        )
    return chosen


def refuse_at_chance(result: SearchResult, chosen: TrialResult, storage: Storage) -> None:
    """Check that the model is better than guessing, where that is known.

    Raises:
        NoBetterThanGuessing: it is not.
    """
    found = against_guessing(result, chosen)
    if found is None or found.is_above:
        return
    luck = ", which may be luck" if found.difference > 0 else ""
    raise NoBetterThanGuessing(
        Message(
            f"no better than {found.guess.doing} ({_reached(found, found.guessed)}): "
            f"{chosen.trial} has {found.value:.4g}{luck}. To register it all the same: ",
            Remedy(
                "promote",
                result.name,
                storage,
                options={"anyway": True}
                if chosen is result.chosen
                else {"trial": chosen.trial, "anyway": True},
            ),
        )
    )


def _reached(found: AgainstGuessing, value: float) -> str:
    """Return `0.952 of the 42 validation images`, or `a macro F1 of 0.4878 on ...`."""
    images = f"the {found.images:,} {found.part} images"
    if found.metric.is_share:
        return f"{value:.4g} of {images}"
    return f"{with_article(found.metric)} of {value:.4g} on {images}"


def against_guessing(result: SearchResult, chosen: TrialResult) -> AgainstGuessing | None:
    """Return how the model compares with guessing; None where that is not known."""
    guessing = Guessing.of(result)
    return guessing.against(chosen) if guessing is not None else None


def config_of(chosen: TrialResult, data_root: Path) -> TrialConfig:
    """Return the trial's config with its data root replaced by the place of the data now."""
    config = TrialConfig.from_dict(chosen.config)
    return config.override({"data.root": str(data_root.absolute())}) if config.data.root else config


def exported_from(
    result: SearchResult,
    trial: str,
    config: TrialConfig,
    checkpoint: Path,
    target: Path,
    *,
    onnx: bool,
) -> "Exported":
    """Return the trial's network, written to `target` and checked.

    It is compared on the data set that it was trained on.

    Raises:
        Refused: the images are not those of the search, the checkpoint is damaged, or what was
            exported computes something else.
        ConfigError, Unavailable: the data set cannot be read, or ONNX is not available.
    """
    from trainables.checkpoints.checkpoint import CheckpointError
    from trainables.export import export

    if onnx:
        export.check_onnx(config)
    dataset = dataset_of(result, config)
    try:
        return export.export(config, dataset, checkpoint, target, onnx=onnx)
    except (CheckpointError, export.Disagreement) as error:
        raise Refused(f"trial {trial} cannot be promoted: {error}") from error


def dataset_of(result: SearchResult, config: TrialConfig) -> "Dataset":
    """Return the data set that the search's trials were trained on.

    Raises:
        Refused: the images are not those of the search.
        ConfigError, Unavailable: they cannot be read.
    """
    from trainables.catalog.datasets import DATASETS
    from trainables.inspection.leaks import load_clean

    dataset = load_clean(config.data)
    data = result.started.data
    if dataset.fingerprint != data["fingerprint"]:
        if data.get("decoding") != DATASETS[config.data.name].decoding:
            remedy = "promote with that version, or search again with this one"
            raise Refused(
                f"{DECODED_OTHERWISE} '{result.name}'. The exported network could not be checked "
                f"against its images; {remedy}."
            )
        raise Refused(
            f"the images of '{result.name}' have changed since the search. "
            "The exported network could not be checked against them; bring them back."
        )
    return dataset


def description(result: SearchResult, chosen: TrialResult, exported: "Exported") -> str:
    """Return the registry's description of the model, in Markdown."""
    data, config = result.started.data, chosen.config
    params = ", ".join(f"{path} {param_text(value)}" for path, value in chosen.params.items())[
        :LONGEST_PARAMS
    ]
    rows = "\n".join(
        f"| {title} | {text} |" for title, text in figures(result, chosen, exported).items()
    )
    where = (
        f"training {chosen.trial} of the selection" if chosen.repeat_of else f"trial {chosen.trial}"
    )
    text = f"""{config["model"]["name"]}, {where} of the search **{result.name}** \
on the data set **{source_text(data)}** \
({classes_text(data)}fingerprint {data["fingerprint"]}).{not_complete(result, chosen)}

| | |
|---|---|
{rows}

Searched values: {params or "none"}.

{_images(chosen, exported)}{_drafts(result)}{_levels(exported)} It answers \
with a table, a row an image: {_columns(chosen, exported)}.{_needs(exported)}"""
    return redact(printable_lines(text))


def _images(chosen: TrialResult, exported: "Exported") -> str:
    """Return in which form the model takes images, in sentences."""
    if chosen.task is CLASSIFICATION:
        return (
            "Give it images as one NumPy array, uint8 (count, height, width, channels), of any "
            "height and width, grey (1 channel) or RGB (3), or grey (count, height, width); or a "
            "list of images, whose sizes may differ. A single image is `image[None]`. They are "
            "made grey or colour, resized and scaled inside; what is transparent becomes white."
        )
    shape = " x ".join(map(str, exported.example.shape[1:]))
    return (
        "Give it images as one NumPy array, uint8 (count, height, width, channels), such as those "
        f"of the training: {shape}. They are scaled inside."
    )


def _columns(chosen: TrialResult, exported: "Exported") -> str:
    """Return the columns of the table that the model gives, as text."""
    if chosen.task is CLASSIFICATION:
        return "`class`, `probability`, and `probability of NAME` for each class"
    return ", ".join(f"`{column}`" for column in exported.columns)


def _drafts(result: SearchResult) -> str:
    """Return a sentence on how large photographs were decoded in the training, or nothing.

    It applies where the images were files.
    """
    if result.started.data["name"] != "folder":
        return ""
    size = " x ".join(map(str, result.started.data["image"][1:]))
    return (
        " In the training, JPEGs of a million pixels or more that were to become much smaller "
        f"were decoded at a fraction of their size, then resized to {size} (height x width): "
        "resized from their full size, some pixels differ a little."
    )


def _levels(exported: "Exported") -> str:
    """Return a sentence on how to convert images of more than 8 bits, or nothing.

    It applies if the images of the training were of that kind.
    """
    if exported.value_range is None:
        return ""
    low, high = exported.value_range
    return (
        f" The images of the training had more than 8 bits: bring values v to 255 * (v - {low:g}) "
        f"/ ({high:g} - {low:g}), cut off at 0 and 255."
    )


def _needs(exported: "Exported") -> str:
    return (
        ""
        if is_network(exported)
        else " It is no network: to load it needs scikit-image, scikit-learn and skops."
    )


def is_network(exported: "Exported") -> bool:
    """Return whether torch computes the model."""
    return "torch" in exported.requirements


def printable_lines(text: str) -> str:
    """Return the text without control characters other than line ends."""
    return "\n".join(printable(line) for line in text.split("\n"))


def figures(result: SearchResult, chosen: TrialResult, exported: "Exported") -> dict[str, str]:
    """Return the model's figures, title to text."""
    where = "selection" if chosen.repeat_of else "search"
    measured = (
        ""
        if exported.value is None
        else f" in the {where}; {exported.value:.4f} as promoted, on {exported.images:,} images"
    )
    metric, primary = chosen.metric, chosen.task.primary
    what = "probabilities" if chosen.task is CLASSIFICATION else "predictions"
    found = {} if metric.is_primary else {f"validation {metric.title}": figure_text(chosen)}
    found[f"validation {primary.title}"] = figure_text(chosen, primary) + measured
    if folds := chosen.config["data"].get("folds"):
        found["committee"] = (
            f"probabilities are the mean of {folds} models, one trained for each fold"
        )
    if chosen.repeat_of and result.selection is not None and result.selection.verdict is not None:
        found["expected value"] = expected_text(result.selection.verdict)
    if (compared := against_guessing(result, chosen)) is not None:
        found["guessing"] = against_text(compared, chosen.trial)
    found |= _test_figures(result.test_of(chosen), metric, primary)
    if not is_network(exported):
        return found | {
            "time": (
                f"{_times(exported.inference)}, from pixels in memory to probabilities on one "
                "thread of a CPU, features included"
            )
        }
    found["torch"] = (
        f"{_times(exported.inference)}, from pixels in memory to {what} on one thread of a CPU"
    )
    if exported.onnx_inference is not None:
        beside = f"probabilities differ from torch's by at most {exported.onnx_difference:.1g}"
        found["ONNX"] = f"{_times(exported.onnx_inference)}, likewise, in onnxruntime; {beside}"
    is_half = exported.precision in ("bf16", "fp16")
    trained = (
        (
            f" (it was trained in {exported.precision}: probabilities differ from that by at most "
            f"{exported.difference:.2g})"
        )
        if is_half
        else ""
    )
    return found | {"pixels": f"float32{trained}"}


def _test_figures(test: Evaluation, metric: Metric, primary: Metric) -> dict[str, str]:
    """Return the figures of the test part, title to text: the metric's, then the primary one's."""
    if not test:
        return {f"test {metric.title}": "the test part was not opened for it"}
    values = {
        f"test {metric.title}": tested_value(test, metric),
        f"test {primary.title}": test[primary.name],
    }
    return {title: f"{value:.4f} on {test['images']:,} images" for title, value in values.items()}


def not_complete(result: SearchResult, chosen: TrialResult) -> str:
    """Return a sentence about a search that did not come to its end; empty if it did."""
    best = ": this is the best so far" if chosen is result.chosen else ""
    return (
        "" if result.outcome in ENDED else f" The search is not complete ({result.outcome}){best}."
    )


def expected_text(verdict: Selected) -> str:
    """Return a text such as `0.9701, 95 % interval 0.9650 to 0.9740, from 5 fresh seeds`."""
    expected = verdict.expected
    return (
        f"{expected.mean:.4f}, {100 * verdict.level:g} % interval {expected.low:.4f} to "
        f"{expected.high:.4f}, from {expected.seeds} fresh seeds"
    )


def _times(inference: dict[str, dict[str, float]]) -> str:
    """Return a text such as `0.21 ms an image alone, 0.034 among 64`."""
    alone, among = (inference[f"batch_{size}"]["median_ms"] for size in (1, 64))
    return f"{alone:.3g} ms an image alone, {among:.3g} among 64"


def tags(result: SearchResult, chosen: TrialResult) -> dict[str, str]:
    """Return the tags by which programs find where a version comes from."""
    by = {} if chosen.metric.is_primary else {"search.metric": chosen.metric.name}
    return {
        "search.name": result.name,
        "search.id": result.started.id,
        "search.trial": chosen.trial,
        **by,
    }


def lines(
    result: SearchResult,
    chosen: TrialResult,
    exported: "Exported",
    registered: Registered,
    uri: str,
) -> list[str]:
    """Return what was done as lines of text."""
    was = (
        f"; version {registered.before}, the champion until now, stays" if registered.before else ""
    )
    serve = Remedy("serve", arguments=[registered.uri], options={"tracking": redact(absolute(uri))})
    now = f"version {registered.version} of {registered.name}{was}.{not_complete(result, chosen)}"
    return [
        (
            f"{chosen.trial} ({chosen.config['model']['name']}) of {result.name} is the champion: "
            f"{now}"
        ),
        *(f"  {title}: {text}" for title, text in figures(result, chosen, exported).items()),
        (
            f'  use it: import mlflow; mlflow.set_tracking_uri("{redact(absolute(uri))}"); '
            f'model = mlflow.pyfunc.load_model("{registered.uri}")'
        ),
        f"  serve it: {serve}",
    ]


def as_json(chosen: TrialResult, exported: "Exported", registered: Registered) -> Json:
    """Return what was done as plain values."""
    return {
        "name": registered.name,
        "version": registered.version,
        "uri": registered.uri,
        "trial_id": chosen.trial,
        **metric_facts(chosen.metric),
        **primary_facts(chosen),
        "value": chosen.value,
        f"{value_of(chosen.task.primary.name)}_as_promoted": exported.value,
        "difference": exported.difference,
        "inference": exported.inference,
        "onnx_inference": exported.onnx_inference,
        "onnx_difference": exported.onnx_difference,
    }


def parser() -> Parser:
    """Return the parser of this command's options."""
    made = Parser(
        prog="python -m search.promote", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(made)
    made.add_argument(
        "--trial",
        metavar="TRIAL",
        help="another than the search's answer: a quicker one of the Pareto front, say",
    )
    made.add_argument(
        "--onnx",
        action="store_true",
        help="also as ONNX, checked on the validation images and timed in onnxruntime",
    )
    made.add_argument(
        "--model",
        metavar="REGISTERED_NAME",
        help="the model's name in the registry (default: the search's)",
    )
    made.add_argument(
        "--tracking", metavar="URI", help="MLflow's tracking URI (default: the search's own)"
    )
    made.add_argument(
        "--data-root",
        type=own_path,
        metavar="DIR",
        help="where the data lies now (default: as the search)",
    )
    made.add_argument(
        "--anyway", action="store_true", help="promote a model that is no better than guessing"
    )
    json_option(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, promote, and return the exit code (`process.exit_codes`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))


if __name__ == "__main__":
    raise SystemExit(main())
