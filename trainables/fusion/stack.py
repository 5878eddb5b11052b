"""Training of several small networks on one device, for an epoch, as one network.

The overhead of each operation is then paid once for all of them.

    if len({shape_of(training.config) for training in trainings}) == 1:
        metrics = train_together(trainings)     # one epoch of each

Life of a `Stack`, which exists for one epoch:

1. Each member's `Training` draws the batches and augmentations of its epoch, as it would alone.
   Members that draw the same ones share them (`Sources`).
2. The networks are fused (`layers.fuse`). All weights are moved into a single matrix (members,
   weights per member), of which the parameters of the fused network become views
   (`move_into_rows`). The optimizers' values are copied into matrices of the same shape. So the
   optimizer's step needs a few operations on whole matrices (`optimizers`), instead of several for
   each parameter.
3. `train_epoch` and `validate` do what the methods of `Training` do, for all members at once. The
   loss to differentiate is the sum of the members' losses. As no operation mixes members, the
   gradient of a member's weights is that of its own loss, and a loss that is not finite affects
   only its own member.
4. `hand_back` copies weights, running statistics and optimizer states into the members.

Between epochs nothing is fused, so that any training can be stopped, saved, resumed or trained
alone, and a group may have other members in each epoch. No member is changed before step 4: if
stacking or training fails, for example for lack of memory, the trainings can continue separately.

A member's losses equal those of the same training alone up to the order of additions (in float32 on
a CPU they agree to about 1e-6). On a CPU its dropout masks are the same too.
"""

import math
import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from trainables.catalog.models import MODELS
from trainables.config import ModelConfig, TrialConfig
from trainables.fusion.layers import blueprint, fuse, masks_for
from trainables.fusion.optimizers import FUSED_OPTIMIZERS, hand_back, steps_taken
from trainables.fusion.shapes import shape_key, unfused_option
from trainables.messages import EpochMetrics
from trainables.on_disk import ImagesOnDisk
from trainables.tasks.metrics import measure
from trainables.training.loop import Training, autocast, mixed_seed

EXAMPLE_SIDE = 32
"""The minimum side, in pixels, of the image for which a model is built to examine its layers.

The model is built on the `meta` device, without memory.
"""


def shape_of(config: TrialConfig) -> Hashable | None:
    """Return the key that trials must share to be fused; None for a trial that cannot be fused.

    Trials with equal keys and the same data set can be trained together. Learning rate, weight
    decay, momentum, schedule, dropout, augmentation, seed and number of epochs may differ.
    """
    if config.model.is_baseline or not _is_stackable(replace(config.model, dropout=None)):
        return None
    return shape_key(config)


@lru_cache
def _is_stackable(model: ModelConfig) -> bool:
    entry = MODELS[model.name]
    side = max(entry.min_side, EXAMPLE_SIDE)
    with torch.device("meta"):
        network = entry.build((3, side, side), 2, **model.options)
    return blueprint(network) is not None


class PartialUpdateError(Exception):
    """Some of the trainings were updated, and others were not.

    None of them may continue: they must be restored from their checkpoints.
    """


def train_together(trainings: Sequence[Training]) -> list[EpochMetrics]:
    """Train one epoch of each training, in lockstep, as one network.

    Afterwards each training has the state that it would have if it had trained this epoch alone.
    The trainings may be at different epochs. A training that diverges does not affect the others.
    If an error other than `PartialUpdateError` is raised, no training has changed. This function is
    fastest if all trainings use the same batches: with the same seed and augmentation, at the same
    epoch.

    Returns:
        The metrics of each training, in order. `time/epoch_s` is the time of the whole group.
        Divide it by the number of members for a member's share; summing it over members would count
        the same seconds several times.

    Raises:
        ValueError: the trainings cannot be trained together (`incompatibility`).
        PartialUpdateError: the epoch was trained, but its result could not be copied to all
            members.
    """
    start = time.perf_counter()
    if refusal := incompatibility(trainings):
        raise ValueError(f"these trainings cannot be fused into one network: {refusal}")
    stack = Stack(trainings)
    train, val = stack.train_epoch(), stack.validate()
    try:
        stack.hand_back()
    except Exception as error:
        raise PartialUpdateError(
            "after an epoch of several trials that were trained as one network, the new weights "
            "were copied to only some of these trials"
        ) from error
    return [
        training.end_epoch(*means, start)
        for training, means in zip(trainings, zip(train, val, strict=True), strict=True)
    ]


def incompatibility(trainings: Sequence[Training]) -> str:
    """Return the reason why these trainings cannot be trained together; empty if they can."""
    if not trainings:
        return "there are no trainings"
    if len(set(map(id, trainings))) != len(trainings):
        return "one of them is listed twice"
    if any(training.world.size > 1 for training in trainings):
        return "one of them is trained by several processes"
    if any(training.epoch >= training.config.epochs for training in trainings):
        return "one of them has trained all its epochs"
    if any(training.scaler is not None for training in trainings):
        return (
            "in float16, each scales its loss separately, and may skip steps that the others take"
        )
    if any("fuse" not in training.config.task.can for training in trainings):
        return "the networks of their task cannot be trained as one"
    if option := next(filter(None, (unfused_option(each.config) for each in trainings)), ""):
        return f"one of them is trained with {option}"
    if any(isinstance(each.train.images, ImagesOnDisk) for each in trainings):
        return "the images do not fit into memory"
    same: dict[str, set[Hashable]] = {
        "shape": {shape_of(each.config) for each in trainings},
        "network": {blueprint(each.network) for each in trainings},
        "device": {each.device for each in trainings},
        "precision": {each.precision for each in trainings},
        "data set": {(each.train.images.shape, each.val.images.shape) for each in trainings},
    }
    for property_name, values in same.items():
        if None in values:
            return (
                f"it is unknown whether the layers of '{trainings[0].config.model.name}' keep the "
                "members separate"
            )
        if len(values) > 1:
            return f"they differ in {property_name}"
    return ""


class Stack:
    """The networks of K trainings, fused for one epoch (see the module's docstring).

    Attributes:
        trainings, members: the trainings, and their number.
        first: the first training, which provides the settings that all members share.
        sources, val_sources: the members that share training batches, and validation batches.
        draws: for the first member of each source, the rows of its batches (steps, batch), and the
            parameters of their augmentation (`Training.draws`).
        steps: the number of steps of the epoch.
        network: the fused network.
        weights: all weights of the network, (members, weights per member).
        parameters: the network's parameters, views of `weights`, in the order of its columns.
        earlier_steps: the number of optimizer steps of each member before this epoch.
        state: the optimizers' values by name, each (members, weights per member).
        optimizer_step: takes a step of all members' optimizers.
        sums: each member's sum of training losses over the images so far, float64 (members,).
        class_weights: (classes, members); None if no member weights classes.
        numbers: 0 to K - 1, to index the members.
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        """Stack compatible members (`incompatibility`); they are not changed before `hand_back`."""
        self.trainings, self.members = trainings, len(trainings)
        self.first = trainings[0]
        self.device = self.first.device
        # Trainings in a process share the tensors of a data set, whose addresses identify it.
        tensors = [
            (each.train.images, each.train.targets, each.val.images, each.val.targets)
            for each in trainings
        ]
        data = [tuple(values.data_ptr() for values in each) for each in tensors]
        # These values and the data determine the batches of an epoch.
        drawn = [
            (each.config.seed, each.epoch, each.config.augment, each.config.train.sampling)
            for each in trainings
        ]
        self.sources = Sources(list(zip(data, drawn, strict=True)), self.device)
        self.val_sources = Sources(data, self.device)
        self.draws = {
            member: trainings[member].draws(trainings[member].epoch + 1)
            for member in self.sources.firsts
        }
        self.steps = len(self.draws[0][0])
        # These are the seeds that the members' own dropout would have in this epoch (`Training`).
        seeds = [
            mixed_seed(each.config.seed, f"dropout {each.world.rank}", each.epoch + 1)
            for each in trainings
        ]
        masks = masks_for(seeds, self.device)
        self.network = fuse([training.network for training in trainings], masks)
        self.weights = move_into_rows(self.network)
        self.parameters = list(self.network.parameters())
        self.optimizers = [training.optimizer for training in trainings]
        self.earlier_steps = [steps_taken(optimizer) for optimizer in self.optimizers]
        fused = FUSED_OPTIMIZERS[self.first.config.optimizer.name]
        self.state = {name: self._gather(name) for name in fused.state_names}
        self.optimizer_step = fused(self.optimizers, self.state, self.earlier_steps, self.steps)
        self.sums = torch.zeros(self.members, dtype=torch.float64, device=self.device)
        self.class_weights = stack_class_weights(trainings)
        self.numbers = torch.arange(self.members, device=self.device)

    def train_epoch(self) -> list[dict[str, float]]:
        """Take all steps of the epoch, and return the mean training loss of each member."""
        self.network.train()
        for step in range(self.steps):
            self.step(*self.batch(step))
        images = self.steps * self.draws[0][0].shape[1]
        return [{"train/loss": total / images} for total in self.sums.tolist()]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Build the arguments of `step`, images and labels, for a step of the epoch (from 0)."""
        drawn = []
        for member in self.sources.firsts:
            rows, changes = self.draws[member]
            drawn.append(self.trainings[member].train.batch(rows[step], changes[step]))
        return self.sources.join(drawn)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step of every member, and send heartbeats.

        Args:
            images: (batch, members, channels, height, width).
            labels: (batch, members).
        """
        with autocast(self.first.precision, self.device):
            logits = self.network(images)
        each = self._losses(logits, labels)
        losses = each.mean(dim=0)  # (members,)
        followed = losses  # the loss to differentiate; with class weights it differs from `losses`
        if self.class_weights is not None:
            followed = (each * self.class_weights[labels, self.numbers]).mean(dim=0)
        # The gradient of the sum is each member's own gradient, as no loss depends on another
        # member's weights. A mean would divide it by the number of members.
        gradients = torch.autograd.grad(followed.sum(), self.parameters)
        rows = torch.cat([as_row(gradient) for gradient in gradients], dim=1)
        self.optimizer_step(self.weights, rows)
        self.sums += losses.detach() * len(labels)
        self._beat()

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Measure the loss and the metrics of each member on its validation set."""
        self.network.eval()
        outputs = list[Tensor]()
        measured = not all(training.metric.is_share for training in self.trainings)
        sums = torch.zeros(2, self.members, dtype=torch.float64, device=self.device)
        # With this size, all members together process about as many images as a single training.
        size = max(self.draws[0][0].shape[1], self.first.eval_batch // self.members)
        for rows in torch.arange(len(self.first.val), device=self.device).split(size):
            images, labels = self.val_sources.join(
                [self.trainings[member].val.batch(rows) for member in self.val_sources.firsts]
            )
            with autocast(self.first.precision, self.device):
                logits = self.network(images)
            sums[0] += self._losses(logits, labels).sum(dim=0)
            sums[1] += (logits.argmax(dim=-1) == labels).sum(dim=0)
            if measured:
                outputs.append(logits)
            self._beat()
        losses, hits = (sums / len(self.first.val)).tolist()
        metrics = [
            {"val/loss": loss, self.first.config.task.primary.key: right}
            for loss, right in zip(losses, hits, strict=True)
        ]
        if measured:
            logits = torch.cat(outputs)
            for member, training in enumerate(self.trainings):
                metrics[member] |= measure(
                    training.metric,
                    logits[:, member].float(),
                    training.val.all_targets,
                    training.val.groups,
                )
        return metrics

    @torch.no_grad()
    def hand_back(self) -> None:
        """Copy weights, statistics and optimizer states to the members, and advance their epoch."""
        weights = self._views(self.weights)
        states = {name: self._views(rows) for name, rows in self.state.items()}
        buffers = dict(self.network.named_buffers())
        for member, training in enumerate(self.trainings):
            for parameter, values in zip(training.network.parameters(), weights, strict=True):
                parameter.copy_(values[member])
            for name, buffer in training.network.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name][member])
                else:
                    buffer += self.steps  # `num_batches_tracked`, which is not fused
            member_state = {
                name: [values[member] for values in views] for name, views in states.items()
            }
            hand_back(training.optimizer, member_state, self.earlier_steps[member] + self.steps)
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
        """Collect the values of this name from the members' optimizers.

        The result is (members, weights per member). It is zero for a member that has taken no step
        yet.
        """
        rows = torch.zeros_like(self.weights)
        each = self._views(rows)
        for member, optimizer in enumerate(self.optimizers):
            for values, parameter in zip(each, optimizer.param_groups[0]["params"], strict=True):
                value = optimizer.state.get(parameter, {}).get(name)
                if value is not None:
                    values[member].copy_(value)
        return rows


def stack_class_weights(trainings: Sequence[Training]) -> Tensor | None:
    """Stack the class weights of the members' losses, (classes, members).

    The result is None if no member weights classes. Otherwise members without weights get ones.
    """
    own = [training.class_weights for training in trainings]
    example = next((weights for weights in own if weights is not None), None)
    if example is None:
        return None
    equal = torch.ones_like(example)
    return torch.stack([equal if weights is None else weights for weights in own], dim=1)


class Sources:
    """Groups of members that use the same batches, so that a batch is built once for each group.

    Such a group is called a source.

    Attributes:
        firsts: the index of the first member of each source.
        kinds: each member's source, as an index into `firsts`, int64 (members,).
    """

    def __init__(self, keys: Sequence[Hashable], device: torch.device) -> None:
        """Group the members by their keys: those with equal keys have the same source."""
        distinct = list(dict.fromkeys(keys))
        self.firsts = [keys.index(key) for key in distinct]
        self.kinds = torch.tensor([distinct.index(key) for key in keys], device=device)

    def join(self, batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Join the batches of `firsts` into a batch of all members.

        A batch that all members share is not copied: it has a stride of 0 along the members.
        Otherwise it is copied into the memory order (batch, height, width, members, channels); see
        `layers`.

        Args:
            batches: for each source, images (batch, channels, height, width) and labels (batch,).

        Returns:
            Images (batch, members, channels, height, width) and labels (batch, members).
        """
        if len(batches) == 1:
            ((images, labels),) = batches
            images = images.unsqueeze(1).expand(-1, len(self.kinds), -1, -1, -1)
            return images, labels.unsqueeze(1).expand(-1, len(self.kinds))
        # (batch, height, width, sources, channels), then the source of each member along axis 3.
        images = torch.stack([images.permute(0, 2, 3, 1) for images, _ in batches], dim=3)
        labels = torch.stack([labels for _, labels in batches], dim=1)
        images = images.index_select(3, self.kinds).permute(0, 3, 4, 1, 2)
        return images, labels.index_select(1, self.kinds)


@torch.no_grad()
def move_into_rows(network: torch.nn.Module) -> Tensor:
    """Move the parameters of a fused network into one matrix, (members, weights per member).

    The parameters become views of the matrix, so that an optimizer step on the matrix changes the
    network without a copy.
    """
    parameters = list(network.parameters())
    rows = torch.cat([as_row(parameter) for parameter in parameters], dim=1)
    shapes = [parameter.shape for parameter in parameters]
    for parameter, view in zip(parameters, views(rows, shapes), strict=True):
        parameter.data = view
    return rows


def as_row(values: Tensor) -> Tensor:
    """Flatten a parameter or gradient (members, ...) to rows, in the order of `views`."""
    return (values.permute(0, 1, 3, 4, 2) if values.dim() == 5 else values).flatten(1)


def views(rows: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """View a matrix (members, weights per member) as parameters (members, ...) of these shapes.

    The parameters follow each other along a row. Filters are stored with their channels last,
    (filters, height, width, channels), which is the order in which channels-last convolutions read
    them.
    """
    parameters = []
    blocks = rows.split([math.prod(shape[1:]) for shape in shapes], dim=1)
    for shape, block in zip(shapes, blocks, strict=True):
        if len(shape) == 5:
            members, filters, channels, height, width = shape
            block = block.view(members, filters, height, width, channels).permute(0, 1, 4, 2, 3)
        else:
            block = block.view(shape)
        parameters.append(block)
    return parameters
