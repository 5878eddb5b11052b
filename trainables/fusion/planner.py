"""The choice of how to train many trials on one device, by measurement.

The ways are: one after another, fused (`trainables/fusion/stack.py`), or in several processes.

Fusion pays where an operation costs much beside its arithmetic: in small networks, above all on a
GPU. Elsewhere it can lose, so it is chosen only where a few steps of this very network on this very
device are faster by a clear margin.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from trainables.catalog.tasks import CAPABILITIES
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.fusion.stack import Stack, shape_of
from trainables.tasks.metrics import MetricAverage
from trainables.training.loop import Training
from trainables.training.precision import operations, precision_for

MEMBERS = (2, 4, 8, 16, 32, 64)
MARGIN = 1.1
"""The speed, relative to plain, from which another way is chosen.

Two measurements of the same way differ by a few per cent.
"""
GROWTH = 1.02
"""The speed that a larger group must have, relative to the best smaller one.

Otherwise it is not worth waiting for its slowest member.
"""
LARGEST_ON_CPU = 3e6
"""Floating-point operations per image, forward, above which fusion is not measured on a CPU.

There trials run on cores of their own anyway. One thread of an AMD EPYC (Zen 4), 4 to 16 members,
batches of 32 to 128: 1.3 to 5 times as fast as plain below, 1.1 to 2.1 from 1 to 6 million, 0.9 to
1.05 at 8 and 22 million.
"""
ROUNDS = 3
STEPS = {"plain": 8, "fused": 3}
"""Steps that are timed in a round."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The way to train trials of one shape on one device."""

    kind: str
    """`plain`, `fused` or `processes`.

    Plain is one after another; fused is `members` as one network; processes is one after another in
    each of `members` processes.
    """
    members: int = 1
    gain: float = 1.0
    """The device's images per second, over those of plain; 1 for plain."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Images per second of all trials together, by way: `plain`, `fused x8`, `processes x2` ..."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Images per second in rounds of steps, plain and fused in turn, of all members together."""

    plain: Sequence[float]
    fused: Sequence[float]

    @property
    def gains(self) -> list[float]:
        """The speed of fused over plain, round by round."""
        return [fused / plain for fused, plain in zip(self.fused, self.plain, strict=True)]

    @property
    def gain(self) -> float:
        """The median of `gains`."""
        return statistics.median(self.gains)

    @property
    def clear(self) -> bool:
        """True if fused is faster in every round, and by the margin in the median one."""
        return self.gain >= MARGIN and min(self.gains) > 1


Measure = Callable[[TrialConfig, Dataset, str, int], Comparison]


def plan(
    config: TrialConfig,
    dataset: Dataset,
    *,
    device: str = "cpu",
    trials: int = MEMBERS[-1],
    share: float = 1.0,
    processes: Mapping[int, float] | None = None,
    measure: "Measure | None" = None,
) -> Plan:
    """Choose how to train trials of this config's shape.

    It takes less than 5 s for networks of the size that fusion is for.

    Args:
        config: one of the trials.
        dataset: what they train on; a few of its images are trained on and nothing is kept.
        device: where.
        trials: how many run at once.
        share: the part of them that is expected to have one shape (`shapes.same_shape_fraction`).
        processes: images per second of several processes on this device, all together, by their
            number, where the caller has measured that.
        measure: how plain and fused are compared; given by tests.
    """
    most = max(1, min(MEMBERS[-1], math.floor(trials * share)))
    refusal = unfit(config, dataset, device, most)
    compared = {} if refusal else compare(config, dataset, device, most, measure or measured)
    return choose(compared, dict(processes or {}), refusal)


def unfit(config: TrialConfig, dataset: Dataset, device: str, most: int) -> str:
    """Return the reason why fusion is not even measured, in words; empty if it is."""
    if most < MEMBERS[0]:
        return "too few of the trials that run at once share a shape"
    if dataset.folds is not None:
        return "the folds of a trial are trained in turn"
    if "fuse" not in config.task.can:
        return f"for {config.task.name} {CAPABILITIES['fuse']}"
    if shape_of(config) is None:
        return f"'{config.model.name}' has layers that cannot be fused"
    network = config.task.load().network(config.model, dataset)
    if (
        precision_for(
            config.precision, network, dataset.image, config.batch_size, torch.device(device)
        )
        == "fp16"
    ):
        return "in float16 each training scales its loss by itself"
    if torch.device(device).type == "cpu":
        work = sum(operations(network, dataset.image))
        if work > LARGEST_ON_CPU:
            return (
                f"the network takes {work / 1e6:.1f} million operations an image; "
                f"on a CPU, fusion is for less than {LARGEST_ON_CPU / 1e6:.0f} million"
            )
    return ""


def compare(
    config: TrialConfig, dataset: Dataset, device: str, most: int, measure: Measure
) -> dict[int, Comparison]:
    """Compare plain with ever larger groups, and return the comparisons by their size.

    It ends when two groups in a row gain no more, or memory runs out.
    """
    found: dict[int, Comparison] = {}
    best, idle = 0.0, 0
    for members in MEMBERS:
        if members > most or idle == 2 or not has_room(device, grown=found != {}):
            break
        try:
            found[members] = measure(config, dataset, device, members)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        idle = 0 if found[members].gain > best * GROWTH else idle + 1
        best = max(best, found[members].gain)
    return found


def choose(
    compared: Mapping[int, Comparison], processes: dict[int, float], refusal: str = ""
) -> Plan:
    """Choose the fastest of what was measured; another way than plain only by a clear margin."""
    rates = {
        f"fused x{members}": statistics.median(found.fused) for members, found in compared.items()
    }
    rates |= {f"processes x{count}": rate for count, rate in processes.items()}
    alone = [rate for found in compared.values() for rate in found.plain]
    plain = statistics.median(alone) if alone else processes.get(1, 0.0)
    if plain:
        rates["plain"] = plain
    fused = Plan(
        kind="plain", measured=rates, reason=refusal or "fusion is not faster by a clear margin"
    )
    for members, found in compared.items():
        if found.clear and found.gain > fused.gain * GROWTH:
            fused = Plan(
                kind="fused",
                members=members,
                gain=found.gain,
                measured=rates,
                reason=f"{members} fused train {found.gain:.2f} times as fast as one",
            )
    count = max(processes, key=lambda count: processes[count], default=1)
    gain = processes[count] / plain if plain and count > 1 else 1.0
    if gain < MARGIN or gain <= fused.gain:
        return fused
    against = f"fused {fused.gain:.2f} times" if fused.kind == "fused" else fused.reason
    return Plan(
        kind="processes",
        members=count,
        gain=gain,
        measured=rates,
        reason=f"{count} processes train {gain:.2f} times as fast as one; {against}",
    )


def measured(config: TrialConfig, dataset: Dataset, device: str, members: int) -> Comparison:
    """Time a few steps of one training and of a group, in turn.

    The group's time includes the steps' part of stacking and handing back, which come once an
    epoch.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(torch.device(device))
    one = Training(config, dataset, device=device)
    group = [Training(config, dataset, device=device) for _ in range(members)]
    plain_s(one, 2)
    fused_s(group, 1)
    pairs = [(plain_s(one, STEPS["plain"]), fused_s(group, STEPS["fused"])) for _ in range(ROUNDS)]
    images = one.draws(1)[0].shape[1]
    return Comparison(
        plain=[images / plain for plain, _ in pairs],
        fused=[images * members / fused for _, fused in pairs],
    )


def rate(config: TrialConfig, dataset: Dataset, device: str, seconds: float = 1.0) -> float:
    """Return the images per second of one plain training, measured over so many seconds.

    That is the speed that a process reaches beside others that do the same.
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
    """Return the seconds that a step of a training alone takes."""
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
    """Return the seconds that a step of a group takes.

    They include the step's part of what comes once an epoch.
    """
    wait(group[0].device)
    start = time.perf_counter()
    stack = Stack(group)
    stack.network.train()
    between = time.perf_counter()
    taken = min(steps, stack.steps)
    for step in range(taken):
        stack.step(*stack.batch(step))
    wait(stack.device)
    done = time.perf_counter()
    stack.hand_back()
    wait(stack.device)
    once = between - start + time.perf_counter() - done
    return (done - between) / taken + once / stack.steps


def has_room(device: str, *, grown: bool) -> bool:
    """Return whether a group of twice the last one's size will fit.

    On a GPU it needs twice the most memory that this process has held. The answer is yes on a CPU,
    and before any group was measured (`grown` is False).
    """
    if torch.device(device).type != "cuda" or not grown:
        return True
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    held = torch.cuda.max_memory_allocated(torch.device(device))
    return 2 * held <= free + torch.cuda.memory_reserved(torch.device(device))


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
