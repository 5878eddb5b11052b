"""Does an average of the weights of several trainings predict better than the best of them?

    python -m tests.bench.weight_average --data folder:FLOWERS --weights FOLDER

A pretrained network is fine-tuned with several seeds, from the same weights but with new heads, as
`search.select` does. Then the weights of all of them are averaged (a model soup: Wortsman et al.
2022), and the statistics of batch normalisation are computed anew on the training images. Beside
it: the best training by its validation accuracy, and the mean of the probabilities of all.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search.operations.run import data_config
from search.operations.run_request import Reading
from tests.bench.one_command import TUNED
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.inspection.leaks import load_clean
from trainables.training.loop import Training, eval_batch

Chances = NDArray[np.floating]


def fine_tuned(config: TrialConfig, dataset: Dataset) -> Training:
    """Fine-tune a network to the end."""
    training = Training(config, dataset)
    for _ in training.epochs():
        pass
    return training


def predicted(training: Training, part: Part, dataset: Dataset) -> Chances:
    """Return the network's outputs for a part, softmax over the classes, (images, classes)."""
    module = training.task.module(training.network, training.val).eval()
    size = eval_batch(training.config, dataset, torch.device("cpu"))
    with torch.no_grad():
        batches = [
            module(torch.from_numpy(part.images[first : first + size]))
            for first in range(0, len(part), size)
        ]
    return np.asarray(torch.cat(batches).float().softmax(1).numpy())


def averaged(networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return the mean of the weights; numbers that are not floats are those of the first."""
    states = [network.state_dict() for network in networks]
    return {
        name: torch.stack([state[name] for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def normalise_anew(training: Training) -> None:
    """Compute the statistics of batch normalisation anew, as means over the training images."""
    network, layers = training.network, []
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean
            layers.append(layer)
    network.eval()
    for layer in layers:
        layer.train()
    with torch.no_grad():
        for rows in torch.arange(len(training.train)).split(128):
            images, _ = training.train.batch(rows)
            network(images)
    network.eval()


def measure(args: argparse.Namespace, data: str) -> str:
    """Fine-tune with each seed, and return the rows of the table for a data set."""
    base = data_config(data, Reading(), 0)
    settings = {**TUNED, "model.pretrained": True, "model.weights": str(args.weights)}
    settings |= {"optimizer.name": "adamw", "optimizer.schedule": "cosine", "epochs": args.epochs}
    settings |= {"model.freeze": args.freeze, "model.input_size": args.side}
    config = base.override(settings)
    dataset = load_clean(config.data)
    assert dataset.test is not None
    rows = []
    for draw in range(args.draws):
        trainings = []
        for seed in range(args.seeds):
            trainings.append(fine_tuned(config.override({"seed": 100 * draw + seed}), dataset))
        parts = (dataset.val, dataset.test)
        each = [[predicted(one, part, dataset) for part in parts] for one in trainings]
        scores = np.array(
            [
                [score(outputs, part) for outputs, part in zip(pair, parts, strict=True)]
                for pair in each
            ]
        )
        best = int(scores[:, 0].argmax())
        ensemble = [
            score(np.mean([pair[number] for pair in each], axis=0), part)
            for number, part in enumerate(parts)
        ]
        soup = trainings[0]
        soup.network.load_state_dict(averaged([one.network for one in trainings]))
        plain = [score(predicted(soup, part, dataset), part) for part in parts]
        normalise_anew(soup)
        renewed = [score(predicted(soup, part, dataset), part) for part in parts]
        cells = [scores.mean(axis=0), scores[best], plain, renewed, ensemble]
        texts = [f"{val:.3f}, {test:.3f}" for val, test in cells]
        rows.append(f"| {data.rpartition('/')[2]} | {draw} | {' | '.join(texts)} |")
        print(rows[-1], flush=True)
    return "\n".join(rows)


def score(outputs: Chances, part: Part) -> float:
    """Return the accuracy of outputs for a part."""
    return float((outputs.argmax(axis=1) == part.targets).mean())


def main() -> None:
    """Measure each data set, and print the table: validation and test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="as for search.run")
    parser.add_argument("--weights", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--freeze", default="all_but_last_stage")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=2)
    args = parser.parse_args()
    print(
        "| data | draw | mean of the trainings | the best of them | mean of the weights | "
        "with new statistics | mean of the probabilities |\n" + "|---" * 7 + "|"
    )
    for data in args.data:
        measure(args, data)


if __name__ == "__main__":
    main()
