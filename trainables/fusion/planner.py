"""Choice of the fastest way to train many trials on one device, by measurement.

Trials can be trained one after another (called plain), fused (`trainables/fusion/stack.py`), or in
several processes.

Fusion is worthwhile if the overhead of operations exceeds their arithmetic: in small networks,
above all on a GPU. For other networks it can be slower. Therefore it is chosen only if it is faster
by a clear margin in a few measured steps of this network on this device.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from trainables.catalog.entries import CAPABILITIES
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.fusion.shapes import unfused_option
from trainables.fusion.stack import Stack, shape_of
from trainables.tasks.metrics import MetricAverage
from trainables.training.loop import Training
from trainables.training.precision import operations, precision_for

MEMBERS = (2, 4, 8, 16, 32, 64)
"""The sizes of fused groups that are measured."""
MARGIN = 1.1
"""The speed, relative to plain training, that another way must have to be chosen.

Repeated measurements differ by a few per cent.
"""
GROWTH = 1.02
"""The speed, relative to the best smaller group, that a larger group must have to be chosen.

In a slower group, members would wait for each other without benefit.
"""
LARGEST_ON_CPU = 3e6
"""Floating-point operations of an image's forward pass above which fusion is not measured on a CPU.

On a CPU, trials run on separate cores anyway. Measured on one thread of an AMD EPYC (Zen 4), with 4
to 16 members and batches of 32 to 128: fusion is 1.3 to 5 times as fast as plain below 1 million
operations, 1.1 to 2.1 times from 1 to 6 million, and 0.9 to 1.05 times at 8 and 22 million.
"""
ROUNDS = 3
"""The number of rounds in which plain and fused steps alternate."""
STEPS = {"plain": 8, "fused": 3}
"""The number of steps that are timed in a round."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A way to train trials of the same shape on one device."""

    kind: str
    """`plain`, `fused` or `processes`.

    With `plain`, trials are trained one after another; with `fused`, `members` trials are trained
    as one network; with `processes`, each of `members` processes trains trials one after another.
    """
    members: int = 1
    gain: float = 1.0
    """The speed in images per second, relative to plain training."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """The images per second of all trials together, for each way: `plain`, `fused x8` ..."""
    reason: str


class SpeedComparison:
    """Images per second of all members together, measured in rounds of plain and fused steps."""

    def __init__(self, plain: Sequence[float], fused: Sequence[float]) -> None:
        self.plain, self.fused = plain, fused
        gains = [after / before for after, before in zip(fused, plain, strict=True)]
        self.gain = statistics.median(gains)
        """The speed of fused training relative to plain training."""
        self.is_clear = self.gain >= MARGIN and min(gains) > 1
        """True if fused training is always faster, and in the median at least `MARGIN` times."""


def plan(
    config: TrialConfig,
    dataset: Dataset,
    *,
    device: str = "cpu",
    trials: int = MEMBERS[-1],
    share: float = 1.0,
    processes: Mapping[int, float] | None = None,
) -> TrainingPlan:
    """Choose the fastest way to train trials of this config's shape.

    The measurement takes less than 5 s for networks that are small enough to profit from fusion.

    Args:
        config: the config of one of the trials.
        dataset: their data set. A few of its images are trained on; the networks are discarded.
        device: the device to train on.
        trials: the number of trials that run at the same time.
        share: the expected share of these trials that have the same shape
            (`shapes.same_shape_fraction`).
        processes: the images per second of several processes together on this device, by the number
            of processes; None if the caller has not measured them.
    """
    most = max(1, min(MEMBERS[-1], math.floor(trials * share)))
    refusal = unsuitability(config, dataset, device, most)
    compared = {} if refusal else compare(config, dataset, device, most)
    return choose(compared, dict(processes or {}), refusal)


def unsuitability(config: TrialConfig, dataset: Dataset, device: str, most: int) -> str:
    """Return the reason why fusion need not be measured; empty if it should be measured."""
    if most < MEMBERS[0]:
        return "too few of the trials that run at once have the same shape"
    if dataset.folds is not None:
        return "the folds of a trial are trained one after another"
    if dataset.train.is_on_disk:
        return "the images do not fit into memory"
    if "fuse" not in config.task.can:
        return f"the task is {config.task.name}, and {CAPABILITIES['fuse']}"
    if option := unfused_option(config):
        return f"trainings with {option} are not fused"
    if shape_of(config) is None:
        return f"'{config.model.name}' has layers that cannot be fused"
    network, kind = config.load_task().network(config.model, dataset), torch.device(device)
    image, batch = dataset.image, config.batch_size
    if precision_for(config.precision, network, image, batch, kind) == "fp16":
        return "in float16, each training scales its loss separately"
    if kind.type == "cpu" and (work := sum(operations(network, image))) > LARGEST_ON_CPU:
        return (
            f"the network needs {work / 1e6:.1f} million operations per image, but on a CPU "
            f"fusion is used only below {LARGEST_ON_CPU / 1e6:.0f} million"
        )
    return ""


def compare(
    config: TrialConfig, dataset: Dataset, device: str, most: int
) -> dict[int, SpeedComparison]:
    """Compare plain training with fused groups of increasing size, up to `most` members.

    The comparisons end after two consecutive sizes without a gain, or when memory runs out.

    Returns:
        The comparisons by group size.
    """
    comparisons: dict[int, SpeedComparison] = {}
    best, useless_sizes = 0.0, 0
    for members in MEMBERS:
        if members > most or useless_sizes == 2 or (comparisons and not has_room(device)):
            break
        try:
            comparisons[members] = measure_speeds(config, dataset, device, members)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        gain = comparisons[members].gain
        useless_sizes = 0 if gain > best * GROWTH else useless_sizes + 1
        best = max(best, gain)
    return comparisons


def choose(
    compared: Mapping[int, SpeedComparison], processes: dict[int, float], refusal: str = ""
) -> TrainingPlan:
    """Choose the fastest way; plain unless another one is faster by a clear margin (`MARGIN`).

    Args:
        compared: comparisons of plain and fused, by group size.
        processes: the images per second of several processes together, by their number.
        refusal: the reason why fusion was not measured, if there is one.
    """
    rates = {f"fused x{size}": statistics.median(each.fused) for size, each in compared.items()}
    rates |= {f"processes x{count}": rate for count, rate in processes.items()}
    plain_rates = [rate for comparison in compared.values() for rate in comparison.plain]
    plain = statistics.median(plain_rates) if plain_rates else processes.get(1, 0.0)
    if plain:
        rates["plain"] = plain
    kind, members, gain = "plain", 1, 1.0
    reason = refusal or "fusion is not clearly faster"
    for size, comparison in compared.items():
        if comparison.is_clear and comparison.gain > gain * GROWTH:
            kind, members, gain = "fused", size, comparison.gain
            reason = f"{members} fused trials train {gain:.2f} times as fast as one"
    count = max(processes, key=lambda count: processes[count], default=1)
    process_gain = processes[count] / plain if plain and count > 1 else 1.0
    if process_gain >= MARGIN and process_gain > gain:
        against = f"fused trials train {gain:.2f} times as fast" if kind == "fused" else reason
        kind, members, gain = "processes", count, process_gain
        reason = f"{count} processes train {gain:.2f} times as fast as one; {against}"
    return TrainingPlan(kind=kind, members=members, gain=gain, measured=rates, reason=reason)


def measure_speeds(
    config: TrialConfig, dataset: Dataset, device: str, members: int
) -> SpeedComparison:
    """Time a few steps of a single training and of a group, alternating between the two.

    Building the fused network, and copying its results back, happen once per epoch. The time of a
    fused step includes its share of this work.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(torch.device(device))
    single = Training(config, dataset, device=device)
    group = [Training(config, dataset, device=device) for _ in range(members)]
    plain_s(single, 2)
    fused_s(group, 1)
    pairs = [
        (plain_s(single, STEPS["plain"]), fused_s(group, STEPS["fused"])) for _ in range(ROUNDS)
    ]
    images = single.draws(1)[0].shape[1]
    return SpeedComparison(
        plain=[images / plain for plain, _ in pairs],
        fused=[images * members / fused for _, fused in pairs],
    )


def rate(config: TrialConfig, dataset: Dataset, device: str, seconds: float = 1.0) -> float:
    """Measure the images per second of a single plain training, for about `seconds`.

    Several processes call this at the same time, to measure their speed while the others run.
    """
    training = Training(config, dataset.of_one_network(), device=device)
    images = training.draws(1)[0].shape[1]
    plain_s(training, 2)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        plain_s(training, STEPS["plain"])
        steps += STEPS["plain"]
    return images * steps / (time.perf_counter() - start)


def plain_s(training: Training, steps: int) -> float:
    """Measure the seconds per step of a single training."""
    rows, changes = training.draws(1)
    means = MetricAverage("loss", device=training.device)
    training.network.train()
    wait(training.device)
    start = time.perf_counter()
    for step in range(steps):
        training.step(rows[step % len(rows)], changes[step % len(rows)], means)
    wait(training.device)
    return (time.perf_counter() - start) / steps


def fused_s(group: Sequence[Training], steps: int) -> float:
    """Measure the seconds per step of a group, including a step's share of the work per epoch."""
    wait(group[0].device)
    start = time.perf_counter()
    stack = Stack(group)
    stack.network.train()
    between = time.perf_counter()
    steps_taken = min(steps, stack.steps)
    for step in range(steps_taken):
        stack.step(*stack.batch(step))
    wait(stack.device)
    trained = time.perf_counter()
    stack.hand_back()
    wait(stack.device)
    per_epoch_s = between - start + time.perf_counter() - trained
    return (trained - between) / steps_taken + per_epoch_s / stack.steps


def has_room(device: str) -> bool:
    """Check whether a group of twice the last size is expected to fit into memory.

    On a GPU it is expected to need twice the peak memory of this process so far. The result is
    always True on a CPU.
    """
    card = torch.device(device)
    if card.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(card)
    return 2 * torch.cuda.max_memory_allocated(card) <= free + torch.cuda.memory_reserved(card)


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished all queued operations."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
