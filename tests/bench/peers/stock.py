"""The training that the peers share.

torchvision's MNIST, its transforms and a DataLoader, float32, channels first, one thread.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


def network(channels: int, side: int) -> nn.Module:
    """Return two 3x3 convolutions with pooling and a dense layer of 128, for 10 classes.

    It is `table2` with 32 filters, as one writes it by hand.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * (side // 4) ** 2, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def images(data_root: str, *, crop: int = 0) -> datasets.MNIST:
    """Return MNIST's training images, as PIL images that are made tensors one by one."""
    change = [transforms.RandomCrop(28, padding=crop)] if crop else []
    steps = [*change, transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    return datasets.MNIST(data_root, train=True, transform=transforms.Compose(steps))


def loaders(data_root: str, rows: str, batch: int) -> tuple[DataLoader, DataLoader]:
    """Return training and validation images: those whose numbers stand in the file `rows`."""
    whole, chosen = images(data_root), np.load(rows)
    train, val = (Subset(whole, chosen[name].tolist()) for name in ("train", "val"))
    return DataLoader(train, batch_size=batch, shuffle=True), DataLoader(val, batch_size=512)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> float:
    """Train one epoch, and return the last loss."""
    net.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
    return float(loss)


@torch.no_grad()
def accuracy(net: nn.Module, loader: DataLoader) -> float:
    """Return the share of images that are classified right."""
    net.eval()
    right = sum(int((net(inputs).argmax(1) == labels).sum()) for inputs, labels in loader)
    return right / len(loader.dataset)


def epochs(config: dict[str, Any]) -> Iterator[tuple[dict[str, float], nn.Module]]:
    """Train with Adam; after each epoch yield its metrics and the net.

    `config` holds `lr` and what `options.trial_config` gives.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    training, validation = loaders(config["data_root"], config["rows"], config["batch"])
    net = network(1, 28)
    optimizer = torch.optim.Adam(net.parameters(), lr=config["lr"])
    for _ in range(config["epochs"]):
        began = time.time()
        loss = train(net, optimizer, training)
        yield (
            {
                "loss": loss,
                "accuracy": accuracy(net, validation),
                "began": began,
                "epoch_s": time.time() - began,
            },
            net,
        )


def save(net: nn.Module, folder: str | Path) -> None:
    """Save a checkpoint as the tutorials make it."""
    torch.save(net.state_dict(), Path(folder) / "model.pt")
