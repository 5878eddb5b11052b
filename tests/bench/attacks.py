"""Compare the attacks with those of the Adversarial Robustness Toolbox, at equal budgets.

    python -m tests.bench.attacks FOLDER [--peer PATH]

FOLDER has images of 10 classes as `train/CLASS/*.png` and `test/CLASS/*.png`, such as CIFAR-10. A
small network is trained on the training images; 500 test images are attacked. The toolbox is not a
dependency; install it into a folder of its own, and pass that folder as PATH:

    pip install --target PATH --no-deps adversarial-robustness-toolbox
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from trainables.robustness.attacks import attack, classifier_of
from trainables.robustness.stress_tests import AttackBudget

IMAGES, EPOCHS, BATCH = 500, 8, 100
BUDGETS = [
    *(
        budget
        for epsilon in (1 / 255, 2 / 255, 8 / 255)
        for budget in (
            AttackBudget(method="fgsm", epsilon=epsilon),
            AttackBudget(method="pgd", epsilon=epsilon, steps=20, restarts=2),
        )
    ),
    AttackBudget(method="square", epsilon=2 / 255, steps=300),
]


class Probabilities(nn.Module):
    """A network from images with pixels from 0 to 255 to class probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.permute(0, 3, 1, 2).float() / 255).double().softmax(dim=1)


def load(folder: Path) -> tuple[Tensor, Tensor]:
    """Load the images of class folders, (count, height, width, 3), and their classes."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for number, name in enumerate(classes):
        for path in sorted((folder / name).iterdir()):
            images.append(np.asarray(Image.open(path).convert("RGB"), np.float32) / 255)
            labels.append(number)
    order = np.random.default_rng(0).permutation(len(images))
    return torch.from_numpy(np.stack(images)[order]), torch.from_numpy(np.array(labels)[order])


def train(images: Tensor, classes: Tensor) -> nn.Module:
    """Train a small network with four layers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 10))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            logits = network(images[rows].permute(0, 3, 1, 2))
            loss = nn.functional.cross_entropy(logits, classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def here(network: nn.Module, images: Tensor, budget: AttackBudget, classes: Tensor) -> Tensor:
    """Attack with this project's code."""
    classify = classifier_of(Probabilities(network))
    return torch.cat(
        [
            attack(classify, images[part], classes[part], budget, part.tolist())
            for part in torch.arange(len(images)).split(BATCH)
        ]
    )


def peer(network: nn.Module, images: Tensor, budget: AttackBudget, classes: Tensor) -> Tensor:
    """Attack with the toolbox, with the same limit, steps and restarts."""
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent, SquareAttack
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        network,
        nn.CrossEntropyLoss(),
        input_shape=(3, *images.shape[1:3]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    np.random.seed(0)
    limits = {"eps": budget.epsilon, "batch_size": BATCH}
    method = {
        "fgsm": lambda: FastGradientMethod(estimator, **limits),
        "pgd": lambda: ProjectedGradientDescent(
            estimator,
            **limits,
            eps_step=budget.step_size,
            max_iter=budget.steps,
            num_random_init=budget.restarts,
            verbose=False,
        ),
        "square": lambda: SquareAttack(
            estimator, **limits, max_iter=budget.steps, p_init=0.8, verbose=False
        ),
    }[budget.method]()
    changed = method.generate(images.permute(0, 3, 1, 2).numpy(), y=classes.numpy())
    return torch.from_numpy(changed).permute(0, 2, 3, 1)


def rows(folder: Path, *, with_peer: bool) -> Iterator[str]:
    """Train, attack, and yield a line for each budget."""
    network = train(*load(folder / "train"))
    images, classes = (part[:IMAGES] for part in load(folder / "test"))

    def accuracy(changed: Tensor) -> float:
        with torch.no_grad():
            guesses = network(changed.permute(0, 3, 1, 2)).argmax(dim=1)
        return 100 * (guesses == classes).float().mean().item()

    yield f"{len(images)} images, accuracy without an attack {accuracy(images):.1f} %"
    for budget in BUDGETS:
        line = f"{budget.name:9} {budget.steps:3} steps x {budget.restarts}:"
        for title, method in (("here", here), ("toolbox", peer))[: 1 + with_peer]:
            start = time.perf_counter()
            changed = method(network, images, budget, classes)
            seconds = time.perf_counter() - start
            largest = (changed - images).abs().max().item() * 255
            line += f"  {title} {accuracy(changed):5.1f} % (moved {largest:.3f}, {seconds:.1f} s)"
        yield line


def main() -> None:
    """Print the accuracy under each attack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", type=Path, help="the folder with the toolbox")
    options = parser.parse_args()
    if options.peer is not None:
        sys.path.append(str(options.peer))
    try:
        import art.attacks.evasion  # noqa: F401
    except ImportError as error:
        with_peer = False
        print(f"The Adversarial Robustness Toolbox is left out, it cannot be imported: {error}")
    else:
        with_peer = True
    for line in rows(options.folder, with_peer=with_peer):
        print(line, flush=True)


if __name__ == "__main__":
    main()
