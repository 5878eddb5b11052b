"""Two sides of a comparison, measured in turn, and the table that comes of it."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

Figures = dict[str, Any]
"""The figures of one run of one side. Those in seconds end in `_s`."""

HALF_A_POINT = 0.005
FAILURES = (
    RuntimeError,
    AssertionError,
    OSError,
    LookupError,
    ValueError,
    subprocess.SubprocessError,
)
"""Errors that a side fails with; a mistake in the benchmark itself may look alike, and is told on
stderr all the same.
"""
LIBRARIES = ("ray", "torch", "torchvision", "optuna", "mlflow", "numpy")
HEADER = (
    "| row | what | theirs | ours | ratio | whole command, ratio | best accuracy, theirs / "
    "ours |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Side:
    """One way to do the work. Rows that name the same side share its runs."""

    title: str
    measure: Callable[[int], Figures]
    """Called with the number of the repetition, from 0."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. Without `theirs` it is a figure of ours alone."""

    name: str
    what: str
    ours: Side
    theirs: Side | None = None
    figure: str = "fit_s"
    """What is compared, by its name in the figures."""
    unit: str = "s"
    more_is_better: bool = False
    whole: str = ""
    """The same of the whole command, in seconds; empty if there is no such thing."""
    like: tuple[str, ...] = ()
    """Figures that must be equal on both sides, or the row does not count."""
    best: bool = False
    """True if the best accuracies must be equal within half a point."""

    @property
    def sides(self) -> list[Side]:
        """Both sides, theirs first."""
        return [side for side in (self.theirs, self.ours) if side is not None]


@dataclass
class Samples:
    """The figures of each side, one a repetition, and the file that gets them as they come."""

    out: Path | None = None
    figures: dict[str, list[Figures]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """The reason why a side could not be measured."""

    def add(self, side: Side, repetition: int, figures: Figures) -> None:
        """Keep one run's figures."""
        self.figures.setdefault(side.title, []).append(figures)
        if self.out is not None:
            with self.out.open("a") as file:
                file.write(
                    json.dumps(
                        {
                            "side": side.title,
                            "repetition": repetition,
                            "at": time.time(),
                            "load": os.getloadavg()[0],
                            **figures,
                        }
                    )
                    + "\n"
                )

    def of(self, side: Side, name: str) -> list[float]:
        """Return one figure of each repetition."""
        return [figures[name] for figures in self.figures[side.title]]


def measure(rows: list[Row], repetitions: int, samples: Samples) -> Iterator[Row]:
    """Run all sides of these rows in turn, A B C A B C ...

    Yields each row as soon as it has what it needs.
    """
    sides = list({side.title: side for row in rows for side in row.sides}.values())
    left = list(rows)
    for repetition in range(repetitions):
        for side in sides:
            if any(side in row.sides for row in left):
                take(side, repetition, repetitions, samples)
            ready = [row for row in left if is_ready(row, repetitions, samples)]
            yield from ready
            left = [row for row in left if row not in ready]


def take(side: Side, repetition: int, repetitions: int, samples: Samples) -> None:
    """Run one side once. If that fails, the others go on."""
    began, title = time.monotonic(), f"{repetition + 1}/{repetitions} {side.title}"
    progress(f"{title} ...")
    try:
        samples.add(side, repetition, side.measure(repetition))
        progress(f"{title}: {time.monotonic() - began:.0f} s")
    except FAILURES as error:
        samples.failed[side.title] = str(error)
        progress(f"{title} failed: {error}")


def is_ready(row: Row, repetitions: int, samples: Samples) -> bool:
    """Return whether a row has all that it needs, or will never have it."""
    names = [side.title for side in row.sides]
    return any(name in samples.failed for name in names) or all(
        len(samples.figures.get(name, [])) == repetitions for name in names
    )


def progress(text: str) -> None:
    """Say on stderr how far it is."""
    print(text, file=sys.stderr, flush=True)


def line(row: Row, samples: Samples) -> str:
    """Return a row of the table: medians, with the range in brackets."""
    if broken := [side.title for side in row.sides if side.title in samples.failed]:
        return f"| {row.name} | {row.what} | | | not measured: '{broken[0]}' failed | | |"
    ours = samples.of(row.ours, row.figure)
    if row.theirs is None:
        return f"| {row.name} | {row.what} | | {spread(ours, row.unit)} | | | |"
    theirs = samples.of(row.theirs, row.figure)
    ratio = spread(ratios(theirs, ours, row.more_is_better), "x")
    whole = (
        spread(
            ratios(samples.of(row.theirs, row.whole), samples.of(row.ours, row.whole), False), "x"
        )
        if row.whole
        else ""
    )
    reason = why_not(row, samples)
    shown = f"{ratio} (does not count: {reason})" if reason else ratio
    return (
        f"| {row.name} | {row.what} | {spread(theirs, row.unit)} | {spread(ours, row.unit)} | "
        f"{shown} | {whole} | {accuracies(row, samples)} |"
    )


def ratios(theirs: list[float], ours: list[float], more_is_better: bool) -> list[float]:
    """Return how many times better ours is, repetition by repetition."""
    return [
        own / other if more_is_better else other / own
        for other, own in zip(theirs, ours, strict=True)
    ]


def spread(values: list[float], unit: str) -> str:
    """Return `4.30x (4.10x to 4.40x)`; the range is left out where there is one value."""
    gap = "" if unit in ("", "x", "%") else " "
    middle, low, high = (
        number(value) for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle}{gap}{unit}" if len(values) == 1 else f"{middle}{gap}{unit} ({low} to {high})"


def number(value: float) -> str:
    """Return a number with three digits that mean something."""
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def why_not(row: Row, samples: Samples) -> str:
    """Return why a row does not count, in words; empty if it does."""
    assert row.theirs is not None
    for name in row.like:
        theirs, ours = samples.of(row.theirs, name), samples.of(row.ours, name)
        if theirs != ours:
            return f"{name} {theirs} against {ours}"
    if (
        row.best
        and abs(median_best(samples, row.theirs) - median_best(samples, row.ours)) > HALF_A_POINT
    ):
        return "best accuracies differ by more than half a point"
    return ""


def median_best(samples: Samples, side: Side) -> float:
    """Return the median over the repetitions."""
    return statistics.median(samples.of(side, "best"))


def accuracies(row: Row, samples: Samples) -> str:
    """Return both sides' best accuracy; empty where nothing is trained."""
    if not row.best or row.theirs is None:
        return ""
    return f"{median_best(samples, row.theirs):.4f} / {median_best(samples, row.ours):.4f}"


def machine() -> str:
    """Return the machine and the versions with which this is measured."""
    cpu = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text().splitlines()
            if text.startswith("model name")
        ),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{time.strftime('%Y-%m-%d')}, {cpu}, {len(os.sched_getaffinity(0))} cores, "
        f"{memory:.0f} GB; Python {platform.python_version()}, {libraries}."
    )
