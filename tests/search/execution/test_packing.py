"""The number of trials that share a worker.

It is asked for, or measured by workers that are played here.
"""

from dataclasses import replace
from typing import Any

import pytest
import ray

from cluster.runtime.resources import Demand, Resources
from search.design.experiment import Experiment
from search.execution.packing import Packing, most_members, pack, sample
from search.space import Choice, Float, Int, SearchSpace
from trainables.config import TrialConfig
from trainables.errors import ConfigError


class Played:
    """Workers that say what they are told to."""

    broken = ray.exceptions.RayError

    def __init__(
        self,
        *,
        kind: str = "plain",
        members: int = 1,
        rates: dict[int, float] | None = None,
        error: Exception | None = None,
    ) -> None:
        self.answer, self.of_processes, self.error = (
            {"kind": kind, "members": members, "reason": "so", "measured": {"plain": 1.0}},
            rates or {},
            error,
        )
        self.asked: dict[str, Any] = {}

    def plan(
        self,
        configs: list[TrialConfig],
        trials: int,
        processes: dict[int, float],
        patience_s: float,
    ) -> dict[str, Any]:
        self.asked = {"configs": configs, "trials": trials, "processes": processes}
        if self.error is not None:
            raise self.error
        return self.answer

    def rates(self, config: TrialConfig, count: int, patience_s: float) -> float:
        return self.of_processes.get(count, 1.0)


@pytest.fixture
def wide(experiment: Experiment) -> Experiment:
    """Forty trials of one shape, chosen at random."""
    space = SearchSpace(
        {"optimizer.lr": Float(1e-4, 1e-1, log=True)}, base={"model.name": "deep_cnn"}
    )
    return replace(experiment, space=space, algorithm="random", trials=40)


def on_gpu(experiment: Experiment, **more: Any) -> Experiment:
    return replace(experiment, device="cuda", demand=Demand(gpus=1), **more)


@pytest.mark.parametrize(
    ("fuse", "options", "asked"),
    [
        ("auto", {}, False),
        ("measure", {}, True),
        ("auto", {"demand": Demand(gpus=1, workers=2), "device": "cuda"}, False),
        ("auto", {"device": "cuda", "demand": Demand(gpus=1)}, True),
        ("off", {"device": "cuda", "demand": Demand(gpus=1)}, False),
        ("auto", {"device": "cuda", "demand": Demand(gpus=0.5)}, False),
    ],
)
def test_what_is_measured(
    wide: Experiment, fuse: str, options: dict[str, Any], asked: bool
) -> None:
    """On a CPU only when asked for, since there equal commands give equal results to the last bit;
    on a GPU unless the user has divided it.
    """
    workers = Played(kind="fused", members=8)
    found = pack(replace(wide, fuse=fuse, **options), workers, Resources(cpus=2, gpus=2))  # type: ignore[arg-type]
    assert bool(workers.asked) == asked
    assert found.members == (8 if asked else 1)


def test_a_number_is_taken_as_far_as_there_are_trials(wide: Experiment) -> None:
    assert pack(replace(wide, fuse="8"), Played(), Resources(cpus=2)) == Packing(
        members=8, reason="as requested"
    )  # type: ignore[arg-type]
    assert pack(replace(wide, fuse="64"), Played(), Resources(cpus=2)) == Packing(  # type: ignore[arg-type]
        members=20, reason="64 on 2 workers take 128 trials at once; there are 40"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"algorithm": "bayes", "fuse": "8"},
            "5 trials per worker: 8 on 2 workers take 16 trials at once, "
            "4 times over with bayes; there are 40",
        ),
        (
            {"concurrency": 4, "fuse": "8"},
            "2 trials per worker: --concurrency 4 allows no more (requested: 8)",
        ),
    ],
)
def test_what_limits_a_number_is_said(
    wide: Experiment, options: dict[str, Any], words: str
) -> None:
    assert str(pack(replace(wide, **options), Played(), Resources(cpus=2))) == words  # type: ignore[arg-type]


def test_trials_of_many_shapes_are_told_that_they_will_be_alone(wide: Experiment) -> None:
    mixed = SearchSpace(
        {"optimizer.lr": Float(1e-4, 1e-1, log=True), "batch_size": Int(8, 64)},
        base={"model.name": "deep_cnn"},
    )
    found = pack(replace(wide, space=mixed, fuse="4"), Played(), Resources(cpus=2))  # type: ignore[arg-type]
    assert found.members == 4
    assert "few trials will run at the same time as one of the same shape" in found.reason


def test_processes_on_a_gpu_are_measured_and_may_win(wide: Experiment) -> None:
    workers = Played(kind="processes", members=4, rates={1: 10.0, 2: 18.0, 4: 30.0, 8: 29.0})
    found = pack(on_gpu(wide), workers, Resources(cpus=8, gpus=1))  # type: ignore[arg-type]
    assert workers.asked["processes"] == {1: 10.0, 2: 18.0, 4: 30.0, 8: 29.0}
    assert (found.members, found.per_gpu, str(found)) == (1, 4, "4 workers per GPU: so")
    pack(on_gpu(wide), workers, Resources(cpus=2, gpus=1))  # type: ignore[arg-type]
    assert workers.asked["processes"] == {1: 10.0, 2: 18.0}  # no processors for more


@pytest.mark.parametrize("error", [TimeoutError("too slow"), ray.exceptions.RayActorError()])
def test_what_cannot_be_measured_is_left_plain_and_said(wide: Experiment, error: Exception) -> None:
    found = pack(replace(wide, fuse="measure"), Played(error=error), Resources(cpus=2))  # type: ignore[arg-type]
    assert (found.members, found.per_gpu) == (1, 1)
    assert found.reason.startswith("could not be measured")


def test_all_workers_stay_busy_and_the_users_limit_holds(wide: Experiment) -> None:
    assert most_members(wide, 2) == 20
    assert (
        most_members(replace(wide, algorithm="bayes"), 2) == 5
    )  # who learns from trials must see some end
    assert most_members(replace(wide, concurrency=6), 2) == 3
    assert most_members(replace(wide, trials=1), 2) == 1


def test_the_sample_is_of_the_space(wide: Experiment) -> None:
    rates = [config.optimizer.lr for config in sample(wide)]
    assert len(set(rates)) == 64
    assert sample(wide) == sample(wide)


@pytest.mark.parametrize("fuse", ["0", "1", "65", "all", ""])
def test_nonsense_is_refused(experiment: Experiment, fuse: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^--fuse must be auto, off, measure or a whole number from 2 to 64"
    ):
        replace(experiment, fuse=fuse)


@pytest.mark.parametrize("fuse", ["4", "measure"])
def test_a_fused_trial_has_one_process(fuse: str, experiment: Experiment) -> None:
    with pytest.raises(ConfigError, match=rf"^--fuse {fuse} cannot be combined with --workers 2"):
        replace(experiment, fuse=fuse, demand=Demand(workers=2))


def test_baselines_are_not_measured_and_a_network_stands_for_the_others(wide: Experiment) -> None:
    workers = Played(kind="fused", members=8)
    baselines = SearchSpace({"seed": Int(0, 1000)}, base={"model.name": "svm"})
    assert (
        pack(
            replace(
                wide, space=baselines, base=TrialConfig().override(baselines.base), fuse="measure"
            ),
            workers,
            Resources(cpus=2),
        )
        == Packing()
    )  # type: ignore[arg-type]
    assert not workers.asked
    mixed = SearchSpace({"model.name": Choice("svm", "knn", "deep_cnn"), "seed": Int(0, 1000)})
    pack(
        replace(wide, space=mixed, trials=40, algorithm="bayes", fuse="measure"),
        workers,
        Resources(cpus=2),
    )  # type: ignore[arg-type]
    assert workers.asked["configs"][0].model.name == "deep_cnn"
    assert {config.model.name for config in workers.asked["configs"]} == {"svm", "knn", "deep_cnn"}
