"""The training loop: pure torch, one epoch at a time.

It uses no Ray and writes no files. `Training.epochs()` yields an `EpochMetrics` for each epoch. All
randomness comes from the config's seed and the number of the epoch. So a training that is resumed
at epoch k draws the same numbers as an uninterrupted one, and the caller's random state is neither
used nor changed.
"""

import base64
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.checkpoints.remembered import MAX_BYTES, Outputs
from trainables.config import BALANCED, GROUPS, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.targets import class_weights
from trainables.messages import EpochMetrics
from trainables.tasks.base import Meter, Task
from trainables.tasks.metrics import MetricAverage
from trainables.tasks.pixels import Pixels, scaling
from trainables.training import optimizers
from trainables.training.adversarial import Adversary
from trainables.training.averaging import WeightAverage
from trainables.training.group_weights import GroupWeights
from trainables.training.precision import precision_for
from trainables.training.world import World
from trainables.values import State

if TYPE_CHECKING:
    from trainables.models.pretrained import Scaling

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
EVAL_BATCH, EVAL_PIXELS = 512, 512 * 64 * 64
"""The maximum number of images in an evaluation batch, and of pixels in all of its images.

These limits keep the activations of a layer for the whole batch small enough for the memory.
"""
SEEDING = threading.RLock()
"""The lock that is held while torch's global generators have a training's seed (`seeded`)."""


@dataclass(frozen=True)
class Within:
    """A place within an epoch, from which it continues as if it had not been interrupted."""

    step: int
    """The number of steps of the epoch that have been taken."""
    sums: list[float]
    """The sums of the training metrics so far."""
    random: str
    """The state of the generator of dropout and of attacks, in base64."""
    seconds: float
    """The time that the epoch has taken so far."""
    skipped: float = 0.0
    """In float16, the number of steps of the epoch that were skipped."""


Pause = Callable[[Callable[[], tuple[State, Within]]], None]
"""Called after each step, with a function that returns the state of the training at this place."""


class Training:
    """The training of one network, by this process or by several together (see `world`)."""

    share_done: float | None = None
    """The share of the steps of the current epoch that are done; None between epochs."""

    def __init__(
        self,
        config: TrialConfig,
        dataset: Dataset,
        *,
        device: str = "cpu",
        world: World | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        """Build the network, with pretrained weights if the config names any, and its optimizer.

        Raises:
            CheckpointError: the checkpoint whose weights are to be loaded is damaged.
            ValueError: the data set is divided into folds, on which several networks are trained
                (`Dataset.fold`).
        """
        if dataset.folds is not None:
            raise ValueError(
                f"a single network cannot be trained on {dataset.folds} folds. Pass the data of "
                "one fold (Dataset.fold)."
            )
        self.config, self.device, self.world = config, torch.device(device), world or World()
        self.task: Task = config.load_task()
        self.metric = config.ranked_by
        self.on_step = on_step or (lambda: None)
        self.pause: Pause = lambda state: None
        self.within: Within | None = None
        """The place at which the next epoch continues; None for its beginning."""
        self.train, self.val = (
            Pixels(part, dataset, config, self.device) for part in (dataset.train, dataset.val)
        )
        self.samples = len(self.train) * self.task.targets.samples_per_image(dataset)
        """The number of samples of an epoch."""
        self._balance(dataset)
        with seeded(config.seed, "weights", 0, self.device):
            network = self.task.network(config.model, dataset)
        self._begin(network, dataset)
        precision = precision_for(
            config.precision if "half" in config.task.can else "fp32",
            network,
            self.task.targets.image(dataset),
            config.batch_size,
            self.device,
        )
        self.network = on_device(network, self.device)
        self.wrapped = self.world.wrap(self.network)
        self._regularise()
        self.optimizer, self.schedule = optimizers.build(
            self.network, config.optimizer, config.epochs
        )
        self._compute_in(precision)
        self.epoch, self.eval_batch = 0, eval_batch(config, dataset, self.device)
        self.validated: Outputs | None = None
        """The network's outputs at the last validation.

        None unless a single process trains on a CPU, and the outputs are small enough to store.
        """
        size = self.task.output_bytes(dataset)
        keeps = self.world.size == 1 and self.device.type == "cpu" and size is not None
        self._validation_part = dataset.val if keeps and size <= MAX_BYTES else None

    def _begin(self, network: nn.Module, dataset: Dataset) -> None:
        """Load the weights with which the config starts a new network, if there are any."""
        config = self.config
        if config.begins_with is not None:
            put_weights(network, config, checkpoint.load(config.begins_with))
        elif config.model.pretrained:
            # Imported here because torchvision takes two seconds, and few trials need it.
            from trainables.models.weights import start_from

            start_from(network, config.model, lambda name: as_values(*scaling(name, dataset)))

    def _balance(self, dataset: Dataset) -> None:
        """Set the loss weights and the sampling probabilities of the classes, as in the config."""
        settings, targets, classes = self.config.train, self.task.targets, len(dataset.classes)
        self.class_weights: Tensor | None = None
        """The weight of each class in the training loss, (classes,); None for equal weights."""
        if settings.class_weights != "none":
            counts = targets.class_counts(dataset.train, classes)
            weights = torch.from_numpy(class_weights(settings.class_weights, counts))
            self.class_weights = weights.float().to(self.device)
        self.chances: Tensor | None = None
        """The sampling weight of each image, on the CPU; None to draw each image once."""
        if settings.sampling == BALANCED:
            labels = targets.strata(dataset.train.targets)
            counts = targets.class_counts(dataset.train, classes)
            self.chances = torch.from_numpy(class_weights(BALANCED, counts)[labels])
        self.group_weights: GroupWeights | None = None
        if settings.group_setting:
            self._balance_groups(dataset)

    def _balance_groups(self, dataset: Dataset) -> None:
        """Set the sampling probabilities or the loss weights of each class in each group."""
        settings, groups = self.config.train, self.train.groups
        assert groups is not None, "the config requires groups"
        classes = self.task.targets.strata(dataset.train.targets)
        # Images without a group are a group of their own.
        _, cells = np.unique((groups + 1) * len(dataset.classes) + classes, return_inverse=True)
        if settings.sampling == GROUPS:
            counts = np.bincount(cells)
            self.chances = torch.from_numpy(class_weights(BALANCED, counts)[cells])
        if settings.group_dro:
            self.group_weights = GroupWeights(
                torch.from_numpy(cells).to(self.device), settings.group_dro, self.world
            )

    def _regularise(self) -> None:
        """Begin the average of the weights, and build the adversary, if the config has them."""
        settings = self.config.train
        self.average = WeightAverage(self.network, settings.ema) if settings.ema else None
        budget = settings.adversarial
        self.adversary = Adversary(budget, self.train) if budget else None

    def _compute_in(self, precision: str) -> None:
        """Set the precision; in float16, also start a new `LossScaler`.

        In float16, gradients below 6e-8 become 0. Therefore the loss is scaled up, as long as the
        gradients do not overflow.
        """
        self.precision = precision
        self.scaler = LossScaler(self.optimizer, self.device) if precision == "fp16" else None

    def epochs(self) -> Iterator[EpochMetrics]:
        """Train from the current epoch to `config.epochs`, and yield each epoch's metrics."""
        while self.epoch < self.config.epochs:
            yield self.next_epoch()

    def state(self) -> State:
        """Return everything that determines the next epoch, as torch's own state dicts.

        `model` has the weights to use. If they are averages, `trained` has the weights that are
        trained further.
        """
        average: State = {}
        if self.average is not None:
            average = {"trained": self.network.state_dict(), "average": self.average.state()}
        return {
            "epoch": self.epoch,
            "model": self.used_network.state_dict(),
            **average,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.precision,
            "scaling": self.scaling,
            **({} if self.group_weights is None else {"group_weights": self.group_weights.state()}),
            **({} if self.scaler is None else {"scaler": self.scaler.state()}),
        }

    @property
    def used_network(self) -> nn.Module:
        """The network that is validated and saved: the averaged one, if weights are averaged."""
        return self.network if self.average is None else self.average.network

    @property
    def scaling(self) -> "Scaling":
        """The scaling of pixels from 0 to 1 before the first layer, in the form of a checkpoint.

        A network that starts from pretrained weights does this scaling itself.
        """
        if self.config.model.pretrained:
            from trainables.models.pretrained import Pretrainable

            assert isinstance(self.network, Pretrainable)
            return self.network.scaling
        return as_values(self.train.mean, self.train.deviation)

    def load_state(self, state: State) -> None:
        """Restore a state that `state` returned, to continue from it."""
        put_weights(self.used_network, self.config, state)
        if self.average is not None:
            put_weights(self.network, self.config, {**state, "model": state["trained"]})
            self.average.load_state(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        optimizers.lay_out(self.optimizer)
        self.schedule.load_state_dict(state["schedule"])
        self.epoch = state["epoch"]
        if self.group_weights is not None:
            self.group_weights.load_state(state["group_weights"])
        self._compute_in(state["precision"])
        if self.scaler is not None and "scaler" in state:
            self.scaler.load_state(state["scaler"])

    def load_within(self, state: State, within: Within) -> None:
        """Restore a state within an epoch, which the next call of `next_epoch` then completes."""
        self.load_state({**state, "epoch": state["epoch"] - 1})
        self.within = within

    def next_epoch(self) -> EpochMetrics:
        """Train one epoch, and measure the network on the validation set."""
        start = time.perf_counter() - (0.0 if self.within is None else self.within.seconds)
        self.epoch += 1
        train = self._train_epoch(start).means("train") | (
            {} if self.scaler is None else self.scaler.epoch_metrics()
        )
        return self.end_epoch(train, self._validate().values(self.world), start)

    def end_epoch(
        self, train: dict[str, float], val: dict[str, float], start: float
    ) -> EpochMetrics:
        """Advance the schedule, and return the metrics of the epoch that has finished.

        Args:
            train: the metrics of the training.
            val: the metrics of the validation.
            start: the start of the epoch, in seconds of `time.perf_counter`.
        """
        values = {"lr": float(self.optimizer.param_groups[0]["lr"])} | train | val
        optimizers.advance(self.schedule, values[self.metric.loss])
        values["time/epoch_s"] = time.perf_counter() - start
        self.share_done = None
        return EpochMetrics(self.epoch, values)

    @property
    def epochs_done(self) -> float:
        """The number of epochs that are done, with the share of the current one."""
        return self.epoch if self.share_done is None else self.epoch - 1 + self.share_done

    def draws(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Draw all random numbers of an epoch at once, except those of dropout and attacks.

        Returns:
            The rows of the epoch's batches, (batches, size), and the numbers for the augmentation
            of this process's share of each batch (`Task.draw`).
        """
        generator = generator_for(self.config.seed, "order", epoch)
        rounds = self.samples // len(self.train)
        order = (
            torch.cat([torch.randperm(len(self.train), generator=generator) for _ in range(rounds)])
            if self.chances is None
            else self.chances.multinomial(self.samples, replacement=True, generator=generator)
        )
        rows_of_batches = batches(order, self.config.batch_size)
        generator = generator_for(self.config.seed, f"augment {self.world.rank}", epoch)
        share = len(self.world.slice(rows_of_batches[0]))
        changes = self.task.draw(
            self.config.augment, len(rows_of_batches), share, generator, self.device
        )
        return rows_of_batches.to(self.device), changes

    def _train_epoch(self, start: float) -> MetricAverage:
        rows_of_batches, changes_of_batches = self.draws(self.epoch)
        means = MetricAverage("loss", device=self.device)
        first, within, self.within = 0, self.within, None
        self.wrapped.train()
        with seeded(self.config.seed, f"dropout {self.world.rank}", self.epoch, self.device):
            if within is not None:
                first, means.sums = within.step, means.sums.new_tensor(within.sums)
                set_random_state(within.random, self.device)
                if self.scaler is not None:
                    self.scaler.skipped.fill_(within.skipped)
            shares = [self.world.slice(rows) for rows in rows_of_batches[first:]]
            each = zip(looking_ahead(self.train, shares), changes_of_batches[first:], strict=True)
            for number, (rows, changes) in enumerate(each, first + 1):
                self.share_done = (number - 1) / len(rows_of_batches)
                self.step(rows, changes, means)
                self.pause(partial(self._state_within, number, means, start))
        means.sums = self.world.sum(means.sums)
        return means

    def _state_within(self, step: int, means: MetricAverage, start: float) -> tuple[State, Within]:
        """Return the state after a step of an epoch that began at `start`."""
        random, seconds = random_state(self.device), time.perf_counter() - start
        skipped = 0.0 if self.scaler is None else float(self.scaler.skipped)
        return self.state(), Within(step, means.sums.tolist(), random, seconds, skipped)

    def step(self, rows: Tensor, changes: Tensor, means: MetricAverage) -> None:
        """Take one optimizer step on a batch, without waiting for the device.

        Args:
            rows: the rows of this process's share of the batch, (share,).
            changes: the numbers for the augmentation of these rows (`draws`).
            means: the average to which the loss is added.
        """
        batch = self.task.batch(self.train, rows, changes)
        if self.class_weights is not None:
            batch = self.task.weigh(batch, self.class_weights)
        if self.group_weights is not None:
            batch = batch._replace(weights=self.group_weights.weigh(rows))
        if self.adversary is not None:
            batch = self.adversary.changed(self.task, self.network, batch)
        losses = self.task.step(self.wrapped, batch, autocast(self.precision, self.device))
        if self.group_weights is not None:
            assert losses.each is not None
            self.group_weights.update(rows, losses.each)
        loss, own_loss = losses.train, losses.told
        loss = self.world.weigh(loss, batch.size, min(self.config.batch_size, self.samples))
        self.optimizer.zero_grad()
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.step(loss)
        if self.average is not None:
            self.average.update(self.network)
        means.add_sums(own_loss * batch.size, batch.size)
        self.on_step()

    @torch.no_grad()
    def _validate(self) -> Meter:
        """Measure the network on the validation set, and store its outputs if they can be reused.

        No operation here waits for the device; reading the values of the returned meter does.
        """
        network = self.used_network
        for each in [self.network] if self.average is None else [self.network, network]:
            self.world.share_buffers(each)
            each.eval()
        self.validated = None
        meter = self.task.meter(self.metric, self.val, keeps=self._validation_part is not None)
        every_row = self.world.slice(torch.arange(len(self.val), device=self.device))
        for rows in looking_ahead(self.val, every_row.split(self.eval_batch)):
            batch = self.task.batch(self.val, rows)
            with autocast(self.precision, self.device):
                outputs = self.task.outputs(network, batch)
            meter.add(outputs, batch)
            self.on_step()
        if self._validation_part is not None:
            self.validated = Outputs(self.epoch, self.config, self._validation_part, meter.stored)
        return meter


class LossScaler:
    """Optimizer steps in float16: torch's scaler, and the number of steps that it has skipped.

    Only `epoch_metrics` and `state` wait for the device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.optimizer, self.scaler = optimizer, torch.amp.GradScaler(device.type)
        self.one, self.skipped = (torch.tensor(value, device=device) for value in (1.0, 0))

    def step(self, loss: Tensor) -> None:
        """Run the backward pass, and take the step unless a gradient is not finite."""
        before = self.scaler.scale(self.one)
        self.scaler.scale(loss).backward()
        optimizers.fill_momentum(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # The scale falls only after a skipped step. Comparing tensors does not wait for the device.
        self.skipped += self.scaler.scale(self.one) < before

    def epoch_metrics(self) -> dict[str, float]:
        """Return the values that an epoch reports, and reset the count of skipped steps."""
        metrics = {
            "train/loss_scale": float(self.scaler.get_scale()),
            "train/skipped_steps": float(self.skipped),
        }
        self.skipped.zero_()
        return metrics

    def state(self) -> State:
        """Return the state of torch's scaler as plain values."""
        return dict(self.scaler.state_dict())

    def load_state(self, state: State) -> None:
        """Restore a state that `state` returned."""
        self.scaler.load_state_dict(state)


def looking_ahead(pixels: Pixels, batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the rows of each batch, after the system was told to read the images of the next one.

    So images that stay in their file are read while the network is busy with the batch before.
    """
    for number, rows in enumerate(batches):
        if number + 1 < len(batches):
            pixels.expect(batches[number + 1])
        yield rows


def eval_batch(config: TrialConfig, dataset: Dataset, device: torch.device) -> int:
    """Return the batch size for predictions.

    The limit on pixels applies to images as they enter the network's first layer, after resizing;
    before it, four times as many are allowed, of which there are copies in float32.
    On a GPU the result is at least the training's batch size (up to `EVAL_BATCH`): the memory
    suffices for that, and larger batches are faster. On a CPU it does not depend on the training's
    batch size, because the batch size affects the order of additions, and so the last bits of
    predictions. For an ensemble it is the smallest of its members.
    """
    if config.members:
        return min(eval_batch(member, dataset, device) for member in config.members)
    image = config.task.load_targets().image(dataset)
    height, width = MODELS[config.model.name].effective_size(image, config.model.options)
    inner, outer = height * width, image[1] * image[2]
    most: int = max(1, min(EVAL_BATCH, EVAL_PIXELS // inner, 4 * EVAL_PIXELS // outer))
    return most if device.type == "cpu" else max(most, min(EVAL_BATCH, config.batch_size))


def on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, with its filters channels-last in memory.

    This layout is the fastest for convolutions and pooling.
    """
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which convolutions and dense layers use this precision.

    It has no effect for `fp32`.
    """
    return torch.autocast(
        device.type, HALVES.get(precision, torch.bfloat16), enabled=precision in HALVES
    )


def put_weights(network: nn.Module, config: TrialConfig, state: State) -> None:
    """Load the weights of a training's `state`, and their scaling of pixels, into the network."""
    network.load_state_dict(state["model"])
    if config.model.pretrained:
        from trainables.models.pretrained import IMAGENET, Pretrainable

        assert isinstance(network, Pretrainable)
        network.normalise(state.get("scaling", IMAGENET))


def as_values(mean: Tensor, deviation: Tensor) -> "Scaling":
    """Convert a scaling to the form of a checkpoint, with a value for each channel."""
    return {"mean": mean.flatten().tolist(), "deviation": deviation.flatten().tolist()}


def batches(order: Tensor, size: int) -> Tensor:
    """Divide the images, in this order, into batches of equal size: (batches, size).

    The last batch is filled up with images from the beginning of the order.
    """
    size = min(size, len(order))
    return order.repeat(2)[: -(-len(order) // size) * size].view(-1, size)


def random_state(device: torch.device) -> str:
    """Return the state of torch's global generator for a device, in base64."""
    is_gpu = device.type == "cuda"
    state = torch.cuda.get_rng_state(device) if is_gpu else torch.get_rng_state()
    return base64.b64encode(state.numpy().tobytes()).decode()


def set_random_state(text: str, device: torch.device) -> None:
    """Restore a state that `random_state` returned."""
    state = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def mixed_seed(seed: int, purpose: str, epoch: int) -> int:
    """Compute a separate seed for each purpose and epoch of a training."""
    # Python's own hash of a string differs between processes.
    return zlib.crc32(f"{seed}/{purpose}/{epoch}".encode())


def generator_for(seed: int, purpose: str, epoch: int) -> torch.Generator:
    """Build a separate CPU generator for each purpose and epoch of a training."""
    return torch.Generator().manual_seed(mixed_seed(seed, purpose, epoch))


@contextmanager
def seeded(seed: int, purpose: str, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the `with` block, and restore them afterwards.

    Dropout and initialisation cannot use another generator. All threads of the process share the
    global ones, so that a thread waits here while another thread is in such a block.
    """
    with SEEDING, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mixed_seed(seed, purpose, epoch))
        yield
