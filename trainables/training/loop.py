"""The training loop: pure torch, one epoch at a time.

There is no Ray here, no files, and no clock but the epoch's own. `Training.epochs()` yields an
`EpochMetrics` for each epoch. All randomness comes from the config's seed and the epoch's number,
so a training resumed at epoch k draws what an uninterrupted one would have drawn, and the caller's
random state is neither used nor changed.
"""

import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.catalog.models import MODELS
from trainables.checkpoints.remembered import MAX_BYTES, Outputs
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Part, Selected
from trainables.messages import EpochMetrics
from trainables.tasks.losses import losses
from trainables.tasks.metrics import SCORES, MetricAverage, measure
from trainables.training import optimizers
from trainables.training.augment import augment, draw
from trainables.training.precision import precision_for
from trainables.training.world import World

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
EVAL_BATCH, EVAL_PIXELS = 512, 512 * 64 * 64
"""Limits of a batch that is classified at once: its images, and their pixels.

What a layer keeps of a batch must fit into memory.
"""
SEEDING, MOVING = threading.RLock(), threading.Lock()
PARTS_KEPT = 4
RESIDENT: dict[tuple[int, str], tuple[NDArray[Any], Tensor]] = {}
"""Images and labels of the training and the validation part on a GPU.

The keys are the id of the array that they came from, and the device. The array is kept beside them,
so that no other array gets its id.
"""


class Training:
    """One network trained on one device, or on one of several (see `world`)."""

    def __init__(
        self,
        config: TrialConfig,
        dataset: Dataset,
        *,
        device: str = "cpu",
        world: World | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        """Build the network, with pretrained weights if the config says so, and its optimizer.

        Raises:
            ValueError: the data set is divided into folds; a network is trained on one of them
                (`Dataset.fold`).
        """
        if dataset.folds is not None:
            raise ValueError(f"one network cannot be trained on {dataset.folds} folds")
        self.config, self.device, self.world = config, torch.device(device), world or World()
        self.metric = config.ranked_by
        self.on_step = on_step or (lambda: None)
        self.train, self.val = (
            Pixels(part, dataset, config, self.device) for part in (dataset.train, dataset.val)
        )
        with seeded(config.seed, "weights", 0, self.device):
            network = MODELS[config.model.name].build(
                dataset.image, len(dataset.classes), **config.model.options
            )
        if config.model.pretrained:
            # torchvision, which few trials need, takes two seconds to import.
            from trainables.models.weights import start_from

            start_from(network, config.model, lambda name: as_values(*scaling(name, dataset)))
        precision = precision_for(
            config.precision, network, dataset.image, config.batch_size, self.device
        )
        self.network = on_device(network, self.device)
        self.wrapped = self.world.wrap(self.network)
        self.optimizer, self.schedule = optimizers.build(
            self.network, config.optimizer, config.epochs
        )
        self._compute_in(precision)
        self.eval_batch = eval_batch(config, dataset, self.device)
        self.epoch = 0
        self.validated: Outputs | None = None
        """The network's outputs at the last validation.

        None unless this process alone computed them, on a CPU, and they are small enough to be
        kept.
        """
        keeps = self.world.size == 1 and self.device.type == "cpu"
        self._validation_part = (
            dataset.val
            if keeps and 4 * len(dataset.val) * len(dataset.classes) <= MAX_BYTES
            else None
        )

    def _compute_in(self, precision: str) -> None:
        """Set the precision.

        In float16 gradients below 6e-8 vanish, so there the loss is scaled up, as far as the
        gradients do not overflow.
        """
        self.precision = precision
        self.scaler = LossScaler(self.optimizer, self.device) if precision == "fp16" else None

    def epochs(self) -> Iterator[EpochMetrics]:
        """Train from the epoch reached so far to `config.epochs`, yielding after each."""
        while self.epoch < self.config.epochs:
            yield self.next_epoch()

    def state(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on, as torch's own state dicts."""
        return {
            "epoch": self.epoch,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.precision,
            "scaling": self.scaling,
            **({} if self.scaler is None else {"scaler": self.scaler.state()}),
        }

    @property
    def scaling(self) -> dict[str, Any]:
        """The scaling of pixels from 0 to 1 before the first layer.

        A network that began with pretrained weights scales them itself.
        """
        if self.config.model.pretrained:
            return dict(self.network.scaling)  # type: ignore[arg-type]
        return as_values(self.train.mean, self.train.deviation)

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        put_weights(self.network, self.config, state)
        self.optimizer.load_state_dict(state["optimizer"])
        optimizers.lay_out(self.optimizer)
        self.schedule.load_state_dict(state["schedule"])
        self.epoch = state["epoch"]
        self._compute_in(state["precision"])
        if self.scaler is not None and "scaler" in state:
            self.scaler.load_state(state["scaler"])

    def next_epoch(self) -> EpochMetrics:
        """Train one epoch and measure it on the validation part."""
        start = time.perf_counter()
        self.epoch += 1
        train = self._train_epoch().means("train") | (
            {} if self.scaler is None else self.scaler.told()
        )
        averages, outputs = self._validate()
        return self.end_epoch(train, averages.means("val") | self._measure(outputs), start)

    def end_epoch(
        self, train: dict[str, float], val: dict[str, float], start: float
    ) -> EpochMetrics:
        """Advance the schedule and return the metrics of the epoch reached.

        Args:
            train: metrics of the training.
            val: metrics of the validation.
            start: when the epoch began, in seconds (`time.perf_counter`).
        """
        values = {"lr": float(self.optimizer.param_groups[0]["lr"])} | train | val
        optimizers.advance(self.schedule, values["val/loss"])
        values["time/epoch_s"] = time.perf_counter() - start
        return EpochMetrics(self.epoch, values)

    def draws(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Draw all that an epoch needs at once.

        Returns:
            The rows of its batches, (batches, size), and what each batch's augmentation takes
            (`augment.draw`).
        """
        order = torch.randperm(
            len(self.train), generator=generator_for(self.config.seed, "order", epoch)
        )
        rows_of_batches = batches(order, self.config.batch_size)
        generator = generator_for(self.config.seed, f"augment {self.world.rank}", epoch)
        share = len(self.world.slice(rows_of_batches[0]))
        changes = draw(self.config.augment, len(rows_of_batches), share, generator, self.device)
        return rows_of_batches.to(self.device), changes

    def _train_epoch(self) -> MetricAverage:
        seed, epoch = self.config.seed, self.epoch
        rows_of_batches, changes_of_batches = self.draws(epoch)
        means = MetricAverage("loss", device=self.device)
        self.wrapped.train()
        with seeded(seed, f"dropout {self.world.rank}", epoch, self.device):
            for rows, changes in zip(rows_of_batches, changes_of_batches, strict=True):
                self.step(self.world.slice(rows), changes, means)
        means.sums = self.world.sum(means.sums)
        return means

    def step(self, rows: Tensor, changes: Tensor, means: MetricAverage) -> None:
        """Take one optimizer step on these rows, changed by what was drawn for them.

        Nothing in it waits for the device.
        """
        images, labels = self.train.batch(rows, changes)
        with autocast(self.precision, self.device):
            outputs = self.wrapped(images)
        loss, own_loss = losses(outputs, labels)
        self.optimizer.zero_grad()
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.step(loss)
        means.add_sums(own_loss * len(labels), len(labels))
        self.on_step()

    @torch.no_grad()
    def _validate(self) -> tuple[MetricAverage, list[Tensor]]:
        """Measure the network on the validation part; its outputs, if they are to be kept."""
        self.world.share_buffers(self.network)
        self.network.eval()
        self.validated = None
        means, outputs = MetricAverage("loss", "accuracy", device=self.device), list[Tensor]()
        for rows in self.world.slice(torch.arange(len(self.val), device=self.device)).split(
            self.eval_batch
        ):
            images, labels = self.val.batch(rows)
            with autocast(self.precision, self.device):
                logits = self.network(images)
            means.add(logits, labels)
            if self._validation_part is not None or self.metric.name in SCORES:
                outputs.append(logits)
            self.on_step()
        if self._validation_part is not None:
            self.validated = Outputs(self.epoch, self.config, self._validation_part, outputs)
        means.sums = self.world.sum(means.sums)
        return means, outputs

    def _measure(self, outputs: list[Tensor]) -> dict[str, float]:
        """Measure what is no sum over batches, from this process's outputs and those of others."""
        if self.metric.name not in SCORES:
            return {}
        logits = torch.cat(outputs).float()
        if self.world.size > 1:
            rows = self.world.slice(torch.arange(len(self.val), device=self.device))
            whole = torch.zeros(len(self.val), logits.shape[1], device=self.device)
            whole[rows] = logits
            logits = self.world.sum(whole)
        return measure(self.metric, logits, self.val.all_labels)


class LossScaler:
    """Optimizer steps in float16: torch's scaler, and the number of steps it has skipped.

    Nothing here waits for the device but `told` and `state`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.optimizer, self.scaler = optimizer, torch.amp.GradScaler(device.type)
        self.one, self.skipped = (torch.tensor(value, device=device) for value in (1.0, 0))

    def step(self, loss: Tensor) -> None:
        """Do the backward pass and the step; the step is skipped if a gradient is not finite."""
        before = self.scaler.scale(self.one)
        self.scaler.scale(loss).backward()
        optimizers.fill_momentum(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # The scale falls only where a step was skipped; to compare tensors waits for nothing.
        self.skipped += self.scaler.scale(self.one) < before

    def told(self) -> dict[str, float]:
        """Return what an epoch reports, and begin counting anew."""
        found = {
            "train/loss_scale": float(self.scaler.get_scale()),
            "train/skipped_steps": float(self.skipped),
        }
        self.skipped.zero_()
        return found

    def state(self) -> dict[str, Any]:
        """Return the scaler's state as plain values."""
        return dict(self.scaler.state_dict())

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.scaler.load_state_dict(state)


class Pixels:
    """A part of a data set on a device, as uint8, scaled (and augmented) one batch at a time."""

    def __init__(
        self, part: Part, dataset: Dataset, config: TrialConfig, device: torch.device
    ) -> None:
        whole = part.whole if isinstance(part, Selected) else part
        self.images, self.labels = resident(whole.images, device), resident(whole.labels, device)
        self.rows = torch.from_numpy(part.rows).to(device) if isinstance(part, Selected) else None
        """The rows of a selection's images in the whole part; None for other parts."""
        self.augment = config.augment
        wanted = "unit" if config.model.pretrained else config.data.scaling
        self.mean, self.deviation = (value.to(device) for value in scaling(wanted, dataset))
        self.mean255, self.deviation255 = 255 * self.mean, 255 * self.deviation

    def __len__(self) -> int:
        return len(self.labels if self.rows is None else self.rows)

    @property
    def all_labels(self) -> Tensor:
        """The class numbers of all images, (images,)."""
        return self.labels if self.rows is None else self.labels[self.rows]

    def batch(self, rows: Tensor, changes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the images and labels of these rows.

        Args:
            rows: which images of the part.
            changes: what was drawn for their augmentation; None for none.

        Returns:
            Images, float32 (batch, channels, height, width), scaled, and labels, (batch,).
        """
        rows = rows.to(self.images.device)
        rows = rows if self.rows is None else self.rows[rows]
        if changes is None or not self.augment.is_on:
            return self._scaled(self.images[rows]), self.labels[rows]
        images = augment(_floats(self.images[rows]).div_(255), self.augment, changes)
        return images.sub_(self.mean).div_(self.deviation), self.labels[rows]

    def scaled(self, images: Images) -> Tensor:
        """Scale any images as those of the part are.

        Args:
            images: uint8 (count, height, width, channels).

        Returns:
            float32 (count, channels, height, width).
        """
        return self._scaled(shared_tensor(images).to(self.mean.device))

    def _scaled(self, images: Tensor) -> Tensor:
        return _floats(images).sub_(self.mean255).div_(self.deviation255)


def _floats(images: Tensor) -> Tensor:
    """Return images as a network takes them.

    In memory a batch lies as convolutions read it, channels last.
    """
    return images.permute(0, 3, 1, 2).float()


def eval_batch(config: TrialConfig, dataset: Dataset, device: torch.device) -> int:
    """Return how many images are classified at once.

    The limit on pixels counts them as this config's network sees the images. A GPU that trains on a
    batch has the memory to classify one, and is the faster the more it gets at once. On a CPU the
    number does not follow the batch size, since the order in which numbers are added depends on it.
    """
    height, width = MODELS[config.model.name].seen(dataset.image, config.model.options)
    most = max(1, min(EVAL_BATCH, EVAL_PIXELS // (height * width)))
    return most if device.type == "cpu" else max(most, min(EVAL_BATCH, config.batch_size))


def on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, its filters laid out channels last.

    In that layout convolutions and pooling are fastest.
    """
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Compute convolutions and dense layers in this precision inside the `with` block."""
    return torch.autocast(
        device.type, HALVES.get(precision, torch.bfloat16), enabled=precision in HALVES
    )


def put_weights(network: nn.Module, config: TrialConfig, state: dict[str, Any]) -> None:
    """Give a network what a training's `state` holds of it."""
    network.load_state_dict(state["model"])
    if config.model.pretrained:
        from trainables.models.families import IMAGENET, Family

        assert isinstance(network, Family)
        network.normalise(state.get("scaling", IMAGENET))


def as_values(mean: Tensor, deviation: Tensor) -> dict[str, Any]:
    """Return a scaling as a checkpoint has it, one value for each channel."""
    return {"mean": mean.flatten().tolist(), "deviation": deviation.flatten().tolist()}


def batches(order: Tensor, size: int) -> Tensor:
    """Return an order of images as batches of one size, (batches, size).

    The last batch is filled up from the order's beginning.
    """
    size = min(size, len(order))
    return order.repeat(2)[: -(-len(order) // size) * size].view(-1, size)


def scaling(name: str, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Return what to subtract from pixels and to divide them by, (channels, 1, 1) each.

    Pixels from 0 to 1 then come out as the config wants (`name` is its `scaling`).
    """
    channels = dataset.image[0]
    if name == "standard":
        mean, deviation = (torch.from_numpy(value) for value in dataset.channel_statistics)
    else:
        shift, spread = {"unit": (0.0, 1.0), "symmetric": (0.5, 0.5)}[name]
        mean, deviation = torch.full((channels,), shift), torch.full((channels,), spread)
    return mean.view(-1, 1, 1), deviation.view(-1, 1, 1)


def resident(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return the array on the device.

    On a CPU that is the array's own memory. On a GPU it stays for the process's next trials, until
    other data come.
    """
    if device.type == "cpu":
        return shared_tensor(array)
    key = id(array), str(device)
    with MOVING:
        if key not in RESIDENT:
            while len(RESIDENT) >= PARTS_KEPT:
                RESIDENT.pop(next(iter(RESIDENT)))
            RESIDENT[key] = array, shared_tensor(array).to(device)
        return RESIDENT[key][1]


def shared_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor over the array's own memory.

    That may be read-only, as in Ray's object store: the tensor is never written to.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def mixed_seed(seed: int, purpose: str, epoch: int) -> int:
    """Return a separate seed for each purpose and epoch of a training."""
    # Python's own hash of a text differs from process to process.
    return zlib.crc32(f"{seed}/{purpose}/{epoch}".encode())


def generator_for(seed: int, purpose: str, epoch: int) -> torch.Generator:
    """Return a separate generator, on the CPU, for each purpose and epoch."""
    return torch.Generator().manual_seed(mixed_seed(seed, purpose, epoch))


@contextmanager
def seeded(seed: int, purpose: str, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the `with` block, and restore them after it.

    Dropout and initialisation take no generator of their own. The global ones belong to the
    process, so one thread at a time has them.
    """
    with SEEDING, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mixed_seed(seed, purpose, epoch))
        yield
