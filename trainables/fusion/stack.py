"""Many small trainings on one device, trained as one network.

What each operation costs beside its arithmetic is then paid once for all of them.

    if len({shape_of(training.config) for training in trainings}) == 1:
        metrics = train_together(trainings)     # one epoch of each

Between epochs nothing is fused: the weights are stacked at an epoch's start and handed back at its
end, so that any training can be stopped, saved, resumed or trained alone, and a group may have
other members in each epoch. A member's losses are those of the training alone but for the order in
which numbers are added (in float32 on a CPU they agree to about 1e-6). On a CPU its dropout masks
are those of the training alone too.
"""

import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from trainables.catalog.models import MODELS
from trainables.catalog.tasks import CLASSIFICATION
from trainables.config import ModelConfig, TrialConfig
from trainables.fusion.layers import blueprint, fuse
from trainables.fusion.masks import masks_for
from trainables.fusion.optimizers import FUSED, KEPT, hand_back, steps_taken
from trainables.fusion.shapes import shape_key
from trainables.messages import EpochMetrics
from trainables.tasks.metrics import SCORES, measure
from trainables.training.loop import Training, autocast, mixed_seed

EXAMPLE_SIDE = 32
"""Side, in pixels, of the image for which a model is built to see what it is made of.

It is built without memory.
"""


def shape_of(config: TrialConfig) -> Hashable | None:
    """Return what trials must have in common to be trained together, or None if this one cannot be.

    Trials of equal shapes on one data set can be trained together. Learning rate, weight decay,
    momentum, schedule, dropout, augmentation, seed and number of epochs are each trial's own.
    """
    return (
        None
        if config.model.is_baseline or not _stacks(replace(config.model, dropout=None))
        else shape_key(config)
    )


@lru_cache
def _stacks(model: ModelConfig) -> bool:
    entry = MODELS[model.name]
    side = max(entry.min_side, EXAMPLE_SIDE)
    with torch.device("meta"):
        network = entry.build((3, side, side), 2, **model.options)
    return blueprint(network) is not None


class PartialUpdateError(Exception):
    """Some of the trainings were updated and others not.

    None of them may be continued: they are to be begun again from their checkpoints.
    """


def train_together(trainings: Sequence[Training]) -> list[EpochMetrics]:
    """Train one epoch of each, in lockstep as one network.

    Each is left as if it had trained that epoch alone. They may be at different epochs. One that
    diverges does not touch the others. An error on the way leaves all of them as they were, unless
    it comes at the very end (`PartialUpdateError`). It is fastest where members see the same
    batches: with one seed and augmentation, at one epoch.

    Returns:
        The metrics of each, in order. `time/epoch_s` is the time that passed for it, which is the
        whole group's: what one member cost the device is that over the number of members, and a sum
        over members counts the same seconds several times.

    Raises:
        ValueError: they have not one shape, device and data set, or one of them is at its end or
            trained by several processes.
        PartialUpdateError: the epoch was trained and could not be handed back to all.
    """
    start = time.perf_counter()
    refusal = why_not(trainings)
    if refusal:
        raise ValueError(f"these trainings cannot be trained together: {refusal}")
    stack = Stack(trainings)
    train, val = stack.train_epoch(), stack.validate()
    try:
        stack.hand_back()
    except Exception as error:
        raise PartialUpdateError(
            "some of the trainings have their new weights and others not"
        ) from error
    return [
        training.end_epoch(*means, start)
        for training, means in zip(trainings, zip(train, val, strict=True), strict=True)
    ]


def why_not(trainings: Sequence[Training]) -> str:
    """Return the reason why these cannot be trained together, in words; empty if they can."""
    if not trainings:
        return "there are none"
    if len(set(map(id, trainings))) != len(trainings):
        return "one of them is there twice"
    if any(training.world.size > 1 for training in trainings):
        return "one of them is trained by several processes"
    if any(training.epoch >= training.config.epochs for training in trainings):
        return "one of them has trained all its epochs"
    if any(training.scaler is not None for training in trainings):
        return (
            "in float16 each scales its loss by itself, and leaves out steps that the others take"
        )
    if any("fuse" not in training.config.task.can for training in trainings):
        return f"their task is not {CLASSIFICATION.name}"
    same: dict[str, Callable[[Training], Hashable]] = {
        "shape": lambda training: shape_of(training.config),
        "network": lambda training: blueprint(training.network),
        "device": lambda training: training.device,
        "precision": lambda training: training.precision,
        "data set": lambda training: (training.train.images.shape, training.val.images.shape),
    }
    for what, value in same.items():
        found = {value(training) for training in trainings}
        if None in found:
            return (
                f"a layer of '{trainings[0].config.model.name}' is not known to keep members apart"
            )
        if len(found) > 1:
            return f"they differ in {what}"
    return ""


class Stack:
    """K trainings' networks as one, for one epoch."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        """Stack the members, which `why_not` accepts; they are not changed before `hand_back`."""
        self.trainings, self.members = trainings, len(trainings)
        self.first = trainings[0]
        self.device = self.first.device
        data = [
            tuple(
                part.data_ptr()
                for pixels in (each.train, each.val)
                for part in (pixels.images, pixels.targets)
            )
            for each in trainings
        ]
        drawn = [
            (each.config.seed, each.epoch, each.config.augment, each.config.train.sampling)
            for each in trainings
        ]
        self.sources, self.val_sources = (
            Sources(list(zip(data, drawn, strict=True)), self.device),
            Sources(data, self.device),
        )
        self.draws = {
            member: trainings[member].draws(trainings[member].epoch + 1)
            for member in self.sources.firsts
        }
        self.steps = len(self.draws[0][0])
        seeds = [
            mixed_seed(training.config.seed, f"dropout {training.world.rank}", training.epoch + 1)
            for training in trainings
        ]
        self.network = fuse(
            [training.network for training in trainings], masks_for(seeds, self.device)
        )
        self.weights = in_rows(self.network)
        self.parameters = list(self.network.parameters())
        self.optimizers = [training.optimizer for training in trainings]
        self.done = [steps_taken(optimizer) for optimizer in self.optimizers]
        self.kept = {name: self._gather(name) for name in KEPT[self.first.config.optimizer.name]}
        self.optimizer_step = FUSED[self.first.config.optimizer.name](
            self.optimizers, self.kept, self.done, self.steps
        )
        self.sums = torch.zeros(self.members, dtype=torch.float64, device=self.device)
        self.class_weights = weights_of(trainings)
        self.numbers = torch.arange(self.members, device=self.device)

    def train_epoch(self) -> list[dict[str, float]]:
        """Take all steps of the epoch, and return each member's mean training loss."""
        self.network.train()
        for step in range(self.steps):
            self.step(*self.batch(step))
        images = self.steps * self.draws[0][0].shape[1]
        return [{"train/loss": total / images} for total in self.sums.tolist()]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the images and labels of a step, counted from 0, as `step` takes them."""
        drawn = []
        for member in self.sources.firsts:
            rows, changes = self.draws[member]
            drawn.append(self.trainings[member].train.batch(rows[step], changes[step]))
        return side_by_side(drawn, self.sources)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step of every member.

        Args:
            images: (batch, members, channels, height, width).
            labels: (batch, members).
        """
        with autocast(self.first.precision, self.device):
            logits = self.network(images)
        each = self._losses(logits, labels)
        losses = each.mean(dim=0)
        followed = losses
        if self.class_weights is not None:
            followed = (each * self.class_weights[labels, self.numbers]).mean(dim=0)
        # A sum keeps members apart.
        gradients = torch.autograd.grad(followed.sum(), self.parameters)
        self.optimizer_step(
            self.weights, torch.cat([in_row(gradient) for gradient in gradients], dim=1)
        )
        self.sums += losses.detach() * len(labels)
        self._beat()

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Return the loss and metrics of each member on its validation part."""
        self.network.eval()
        outputs = list[Tensor]()
        measured = any(training.metric.name in SCORES for training in self.trainings)
        sums = torch.zeros(2, self.members, dtype=torch.float64, device=self.device)
        size = max(self.draws[0][0].shape[1], self.first.eval_batch // self.members)
        for rows in torch.arange(len(self.first.val), device=self.device).split(size):
            images, labels = side_by_side(
                [self.trainings[member].val.batch(rows) for member in self.val_sources.firsts],
                self.val_sources,
            )
            with autocast(self.first.precision, self.device):
                logits = self.network(images)
            sums[0] += self._losses(logits, labels).sum(dim=0)
            sums[1] += (logits.argmax(dim=-1) == labels).sum(dim=0)
            if measured:
                outputs.append(logits)
            self._beat()
        losses, hits = (sums / len(self.first.val)).tolist()
        found = [
            {"val/loss": loss, CLASSIFICATION.primary.key: right}
            for loss, right in zip(losses, hits, strict=True)
        ]
        if measured:
            logits = torch.cat(outputs)
            for member, training in enumerate(self.trainings):
                found[member] |= measure(
                    training.metric, logits[:, member].float(), training.val.all_targets
                )
        return found

    @torch.no_grad()
    def hand_back(self) -> None:
        """Give each member its weights, running statistics, optimizer state and epoch."""
        weights, kept = (
            self._views(self.weights),
            {name: self._views(rows) for name, rows in self.kept.items()},
        )
        buffers = dict(self.network.named_buffers())
        for member, training in enumerate(self.trainings):
            for parameter, values in zip(training.network.parameters(), weights, strict=True):
                parameter.copy_(values[member])
            for name, buffer in training.network.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name][member])
                else:
                    buffer += self.steps  # num_batches_tracked
            own = {name: [values[member] for values in views] for name, views in kept.items()}
            hand_back(training.optimizer, own, self.done[member] + self.steps)
            training.network.eval()
            training.epoch += 1

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of each image and member, (batch, members)."""
        return functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), reduction="none"
        ).view(labels.shape)

    def _beat(self) -> None:
        for training in self.trainings:
            training.on_step()

    def _views(self, rows: Tensor) -> list[Tensor]:
        return views(rows, [parameter.shape for parameter in self.parameters])

    @torch.no_grad()
    def _gather(self, name: str) -> Tensor:
        """Return what the members' optimizers keep under this name, as rows.

        They are zero for a member that has taken no step.
        """
        rows = torch.zeros_like(self.weights)
        each = self._views(rows)
        for member, optimizer in enumerate(self.optimizers):
            for values, parameter in zip(each, optimizer.param_groups[0]["params"], strict=True):
                kept = optimizer.state.get(parameter, {}).get(name)
                if kept is not None:
                    values[member].copy_(kept)
        return rows


def weights_of(trainings: Sequence[Training]) -> Tensor | None:
    """Return how much an image counts in each member's loss, by its class, (classes, members).

    None where all images count alike for all members.
    """
    found = [training.class_weights for training in trainings]
    known = next((weights for weights in found if weights is not None), None)
    if known is None:
        return None
    alike = torch.ones_like(known)
    return torch.stack([alike if weights is None else weights for weights in found], dim=1)


class Sources:
    """The different sources that members have, and the members of each.

    `firsts` is one member of each source, `kinds` each member's source as a position in `firsts`,
    int64 (members,).
    """

    def __init__(self, keys: Sequence[Hashable], device: torch.device) -> None:
        """Find the different sources among `keys`, one key for each member."""
        found = list(dict.fromkeys(keys))
        self.firsts = [keys.index(key) for key in found]
        self.kinds = torch.tensor([found.index(key) for key in keys], device=device)


def side_by_side(
    batches: Sequence[tuple[Tensor, Tensor]], sources: Sources
) -> tuple[Tensor, Tensor]:
    """Return the batches of `sources.firsts` as one batch of all members.

    A batch that all share is not copied: it has a stride of 0 along the members. Otherwise channels
    follow members in memory.

    Returns:
        Images (batch, members, channels, height, width) and labels (batch, members).
    """
    members = len(sources.kinds)
    if len(batches) == 1:
        ((images, labels),) = batches
        return images.unsqueeze(1).expand(-1, members, -1, -1, -1), labels.unsqueeze(1).expand(
            -1, members
        )
    images = torch.stack([images.permute(0, 2, 3, 1) for images, _ in batches], dim=3).index_select(
        3, sources.kinds
    )
    labels = torch.stack([labels for _, labels in batches], dim=1).index_select(1, sources.kinds)
    return images.permute(0, 3, 4, 1, 2), labels


@torch.no_grad()
def in_rows(network: torch.nn.Module) -> Tensor:
    """Move the parameters of a stacked network into one matrix, and return it.

    The matrix is (members, weights per member); the parameters become views of it.
    """
    parameters = list(network.parameters())
    members, each = len(parameters[0]), sum(parameter[0].numel() for parameter in parameters)
    rows = torch.empty(members, each, dtype=parameters[0].dtype, device=parameters[0].device)
    for parameter, view in zip(
        parameters, views(rows, [parameter.shape for parameter in parameters]), strict=True
    ):
        view.copy_(parameter)
        parameter.data = view
    return rows


def in_row(values: Tensor) -> Tensor:
    """Return one parameter (members, ...) as (members, weights per member), as `views` has it."""
    return (values.permute(0, 1, 3, 4, 2) if values.dim() == 5 else values).flatten(1)


def views(rows: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Return a matrix (members, weights per member) as parameters (members, ...) of these shapes.

    Filters have their channels last in memory, as convolutions read them.
    """
    found, start = [], 0
    for shape in shapes:
        end = start + math.prod(shape[1:])
        block = rows[:, start:end]
        if len(shape) == 5:
            members, filters, channels, height, width = shape
            found.append(
                block.view(members, filters, height, width, channels).permute(0, 1, 4, 2, 3)
            )
        else:
            found.append(block.view(shape))
        start = end
    return found
