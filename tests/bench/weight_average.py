"""Does an average of the weights of several trainings predict better than the best of them?

    python -m tests.bench.weight_average --data folder:FLOWERS --weights FOLDER

A pretrained network is fine-tuned with several seeds: once with a new head for each seed, as
`search.select` does, and once with the same new head for all of them, as Wortsman et al. 2022
("Model soups", section 2) do. Columns of the table, each with validation and test accuracy:

- the mean of the trainings, the standard deviation between them (if it is smaller with a common
  head, then repeats with a common head would make a selection's intervals too narrow), and the best
  of them by its validation accuracy;
- the mean of all weights (their uniform soup), as it is, and with new statistics of the trained
  layers' batch normalisation, which are means over the training images; and the numbers of test
  images that only this mean, as it is, or only the best training classifies correctly;
- the greedy soup (their algorithm 1): the trainings in the order of their validation accuracies,
  each of which joins the mean if that does not lower its validation accuracy;
- the mean of the probabilities of all.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from search.feedback.learning.paired import PairedComparison
from search.operations.run import data_config
from search.operations.run_request import Reading
from tests.bench.one_command import TUNED
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.evaluation.combine import Weights, mean_weights, renew_statistics
from trainables.inspection.leaks import load_clean
from trainables.training.loop import Training, eval_batch
from trainables.training.process import prepare

Chances = NDArray[np.floating]
Scores = tuple[float, float]
"""The accuracies for the validation and the test images."""
HEADS = ("own", "common")
COLUMNS = (
    "data",
    "draw",
    "heads",
    "mean of the trainings",
    "deviation between them",
    "the best of them",
    "mean of the weights",
    "wins, losses against the best",
    "with new statistics",
    "greedy soup",
    "its members",
    "mean of the probabilities",
)


@dataclass(frozen=True)
class Member:
    """A training that has ended."""

    weights: Weights
    outputs: list[Chances]
    """Its class probabilities for the validation and the test images."""


class Soups:
    """The trainings of one draw, and averages of their weights in one network."""

    def __init__(self, config: TrialConfig, dataset: Dataset, seeds: Sequence[int]) -> None:
        assert dataset.test is not None
        self.config, self.dataset, self.seeds = config, dataset, seeds
        self.parts = (dataset.val, dataset.test)
        self.training = Training(config.override({"seed": seeds[0]}), dataset)
        """A training whose network takes the weights to evaluate."""
        self.begin = copied(self.training.network)
        """The weights with which the training with the first seed begins."""
        self.first: Member | None = None
        """The training with the first seed, which has the same head in both kinds."""

    def train(self, heads: str) -> list[Member]:
        """Fine-tune with each seed, from the head of this seed or (`common`) of the first."""
        first, *rest = self.seeds
        if self.first is None:
            self.first = self.fine_tune(first, self.begin)
        begin = self.begin if heads == "common" else None
        return [self.first, *(self.fine_tune(seed, begin) for seed in rest)]

    def fine_tune(self, seed: int, begin: Weights | None) -> Member:
        """Fine-tune to the end; `begin` has the first weights, None for those of the seed."""
        training = Training(self.config.override({"seed": seed}), self.dataset)
        if begin is not None:
            training.network.load_state_dict(begin)
        for _ in training.epochs():
            pass
        weights = copied(training.network)
        return Member(weights, self.predict(weights))

    def predict(self, weights: Weights, *, anew: bool = False) -> list[Chances]:
        """Return the class probabilities of each part, (images, classes)."""
        self.training.network.load_state_dict(weights)
        if anew:
            renew_statistics(self.training.network, self.training.train)
        return [predicted(self.training, part, self.dataset) for part in self.parts]

    def scores(self, outputs: Sequence[Chances]) -> Scores:
        """Return the accuracies of outputs for the validation and the test images."""
        val, test = (
            float((chances.argmax(axis=1) == part.targets).mean())
            for chances, part in zip(outputs, self.parts, strict=True)
        )
        return val, test

    def row(self, members: Sequence[Member]) -> list[str]:
        """Return the cells of a row of the table, from the column after the heads on."""
        each = [self.scores(member.outputs) for member in members]
        best = max(range(len(each)), key=lambda number: each[number][0])
        mean = mean_weights(*(member.weights for member in members))
        outputs = self.predict(mean)
        count, _, greedy = greedy_soup(
            [(member.weights, scores) for member, scores in zip(members, each, strict=True)],
            lambda weights: self.scores(self.predict(weights)),
        )
        chances = [
            np.mean([member.outputs[number] for member in members], axis=0)
            for number in range(len(self.parts))
        ]
        against = PairedComparison.of(self.is_right(members[best].outputs), self.is_right(outputs))
        return [
            cell(np.mean(each, axis=0)),
            cell(np.std(each, axis=0, ddof=1)),
            cell(each[best]),
            cell(self.scores(outputs)),
            f"{against.gained}, {against.lost}",
            cell(self.scores(self.predict(mean, anew=True))),
            cell(greedy),
            str(count),
            cell(self.scores(chances)),
        ]

    def is_right(self, outputs: Sequence[Chances]) -> NDArray[np.bool_]:
        """Return True for each test image that is classified correctly, (images,)."""
        right: NDArray[np.bool_] = outputs[1].argmax(axis=1) == self.parts[1].targets
        return right


def cell(scores: Sequence[float] | NDArray[np.floating]) -> str:
    """Format a pair of accuracies."""
    return ", ".join(f"{score:.3f}" for score in scores)


def greedy_soup(
    members: Sequence[tuple[Weights, Scores]], score: Callable[[Weights], Scores]
) -> tuple[int, Weights, Scores]:
    """Return the number of members in the greedy soup, its weights, and their accuracies.

    Args:
        members: the weights of each training, with their accuracies.
        score: measures weights.
    """
    (first, best), *others = sorted(members, key=lambda member: -member[1][0])
    joined, soup = [first], first
    for weights, _ in others:
        tried = mean_weights(*joined, weights)
        accuracies = score(tried)
        if accuracies[0] >= best[0]:
            joined, soup, best = [*joined, weights], tried, accuracies
    return len(joined), soup, best


def copied(network: nn.Module) -> Weights:
    """Return a copy of a network's weights and statistics."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def predicted(training: Training, part: Part, dataset: Dataset) -> Chances:
    """Return the class probabilities for a part, (images, classes)."""
    module = training.task.module(training.network, training.val).eval()
    size = eval_batch(training.config, dataset, torch.device("cpu"))
    with torch.no_grad():
        batches = [
            module(torch.from_numpy(part.images[first : first + size]))
            for first in range(0, len(part), size)
        ]
    return np.asarray(torch.cat(batches).numpy())


def measure(args: argparse.Namespace, data: str) -> None:
    """Fine-tune with each seed and both kinds of heads; print the rows of a data set."""
    base = data_config(data, Reading(), 0)
    settings = {**TUNED, "model.pretrained": True, "model.weights": str(args.weights)}
    settings |= {"optimizer.name": "adamw", "optimizer.schedule": "cosine", "epochs": args.epochs}
    settings |= {"model.freeze": args.freeze, "model.input_size": args.side}
    config = base.override(settings)
    dataset = load_clean(config.data)
    for draw in range(args.draws):
        soups = Soups(config, dataset, [100 * draw + seed for seed in range(args.seeds)])
        for heads in args.heads:
            cells = [data.rpartition("/")[2], str(draw), heads, *soups.row(soups.train(heads))]
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure each data set, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="as for search.run")
    parser.add_argument("--weights", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--freeze", default="all_but_last_stage")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    args = parser.parse_args()
    prepare(args.threads)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for data in args.data:
        measure(args, data)


if __name__ == "__main__":
    main()
