"""Which device trials get: the commands that are shipped, on played machines."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import submit
from cluster.runtime import nodes
from cluster.runtime.nodes import Growth, MachineKind, growth_from_file
from cluster.runtime.resources import Demand, Machines, Resources
from search.design.experiment import Experiment
from search.execution import capacity, cluster_capacity
from search.execution.capacity import Limit
from search.operations import run
from search.run import parse_options
from search.sessions.estimate import estimate_search, measured_on
from trainables.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent
HEAD, CARD, BARE = Resources(cpus=0), Resources(cpus=4, gpus=1), Resources(cpus=4)
SMOKE = ["--space", "smoke", "--address", "auto"]


def experiment_of(words: list[str]) -> Experiment:
    return run.experiment_of(parse_options(words).request)


def limited(
    words: list[str], have: list[Resources], growth: Growth | None, monkeypatch: pytest.MonkeyPatch
) -> tuple[Experiment, list[str]]:
    """The experiment of a search that these words begin on such a cluster, and what was said."""

    class Played(Limit):
        def __init__(
            self, experiment: Experiment, have: Machines, planned: int, *, say: Any
        ) -> None:
            super().__init__(experiment, have, planned)

        def begin(self) -> None:
            pass

        def end(self) -> None:
            pass

    monkeypatch.setattr(nodes, "growth", lambda: growth)
    monkeypatch.setattr(cluster_capacity, "ClusterLimit", Played)
    said = list[str]()
    with capacity.limited(experiment_of(words), Machines.of(have), 9, say=said.append) as found:
        return found.experiment, said


def grown() -> Growth:
    """The growth of the shipped file for AWS, with the resources that `ray up` fills in."""
    config = yaml.safe_load((ROOT / "cluster" / "cluster.yaml").read_text())
    for name in ("spot", "on_demand"):
        config["available_node_types"][name]["resources"] = {"CPU": 4, "GPU": 1}
    return growth_from_file(config)


def rayjob() -> list[str]:
    """The words of the RayJob's search."""
    job = yaml.safe_load((ROOT / "cluster" / "kubernetes" / "rayjob.yaml").read_text())
    entrypoint = shlex.split(job["spec"]["entrypoint"].replace("PUT-YOURS-HERE", "mine"))
    assert entrypoint[:3] == ["python", "-m", "search.run"]
    return entrypoint[3:]


def documented() -> Iterator[list[str]]:
    """The words of each search that the documentation submits to a cluster, as they are there."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for found in re.findall(
            r"cluster\.submit \S+ -- (python -m search\.run .*)", path.read_text()
        ):
            yield submit.check_command(shlex.split(found, comments=True), {})[3:]


def test_the_rayjob_trains_on_a_card_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    for growth in (Growth(is_known=False), Growth(kinds=(MachineKind(machine=CARD, most=4),))):
        found, said = limited(rayjob(), [HEAD], growth, monkeypatch)
        assert (found.device, found.demand, said) == ("cuda", Demand(gpus=1), [])


def test_the_documented_searches_train_on_a_card_a_trial_where_a_cluster_has_cards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = list(documented())
    assert commands
    for words in commands:
        for have, growth in (
            ([HEAD], grown()),
            ([HEAD, CARD, CARD], None),
            ([HEAD, CARD, BARE], None),
        ):
            found, said = limited(words, have, growth, monkeypatch)
            assert (found.device, found.demand, said) == ("cuda", Demand(gpus=1), [])
        found, said = limited(words, [HEAD, BARE], None, monkeypatch)
        assert (found.device, found.demand, said) == ("cpu", Demand(), [])


@pytest.mark.parametrize(
    ("words", "have", "growth", "said"),
    [
        (
            ["--device", "cpu"],
            [HEAD, CARD],
            None,
            "note: 1 GPU of the cluster is idle, because this search trains on the CPU",
        ),
        (
            ["--device", "cpu"],
            [HEAD],
            Growth(kinds=(MachineKind(machine=CARD, most=3),)),
            "note: 3 GPUs of the cluster are idle, because this search trains on the CPU",
        ),
        (
            ["--gpus-per-trial", "0", "--workers", "2"],
            [HEAD, CARD],
            None,
            "note: 1 GPU of the cluster is idle, because this search trains on the CPU",
        ),
        (
            ["--workers", "2"],  # there is no room for two
            [HEAD, CARD],
            None,
            (
                "note: 1 GPU of the cluster is idle, because this search trains on the CPU. "
                "search.run --gpus-per-trial 1 gives each worker of a trial a GPU"
            ),
        ),
        (
            [],
            [HEAD],
            Growth(is_known=False),
            "note: the cluster has no GPU now and does not report which machines may be added, so "
            "this search trains on the CPU. If GPUs may be added, "
            "search.run --gpus-per-trial 1 gives each trial a GPU",
        ),
    ],
)
def test_gpus_that_lie_idle_are_told(
    words: list[str],
    have: list[Resources],
    growth: Growth | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, lines = limited([*SMOKE, *words], have, growth, monkeypatch)
    assert (found.device, found.demand.gpus) == ("cpu", 0)
    assert lines == [said], "advice only to who has not said what it contradicts"


def test_baselines_leave_gpus_alone_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said = limited(
        ["--space", "baselines", "--address", "auto"], [HEAD, CARD], None, monkeypatch
    )
    assert (found.device, said) == ("cpu", [])


def test_who_wants_this_machines_cpu_is_not_contradicted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    with capacity.limited(
        experiment_of(["--space", "smoke", "--device", "cpu"]),
        Machines.of([CARD]),
        9,
        say=said.append,
    ):
        pass
    assert said == []
    assert (
        limited([*SMOKE, "--device", "cpu"], [HEAD], Growth(is_known=False), monkeypatch)[1] == []
    )


def test_a_budget_of_gpu_hours_waits_for_what_the_cluster_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*SMOKE, "--budget", "1gpu-hour"]
    assert limited(words, [HEAD, CARD], None, monkeypatch)[0].device == "cuda"
    with pytest.raises(ConfigError, match="the trials do not use a GPU"):
        limited(words, [HEAD, BARE], None, monkeypatch)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--gpus-per-trial", "2"],
            (
                "--gpus-per-trial must be at most 1 (got 2), because a process trains on "
                "one GPU or a part of it. "
                "To train each trial on several GPUs, use --workers 2 --gpus-per-trial 1."
            ),
        ),
        (
            ["--gpus-per-trial", "1.5"],
            "--gpus-per-trial must be at most 1 (got 1.5), because a process",
        ),
        (
            ["--gpus-per-trial", "0.5", "--workers", "2"],
            (
                "--gpus-per-trial 0.5 cannot be combined with --workers 2, because the "
                "workers of one trial cannot share a GPU. "
                "Use --gpus-per-trial 1, or --workers 1."
            ),
        ),
    ],
)
def test_gpu_requests_that_cannot_work_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        experiment_of([*SMOKE, *words])


@pytest.mark.parametrize(
    "words",
    [
        ["--gpus-per-trial", "0.25"],
        ["--gpus-per-trial", "1", "--workers", "2"],
        ["--device", "cuda", "--workers", "4"],
    ],
)
def test_gpu_requests_that_work_are_taken(words: list[str]) -> None:
    assert experiment_of([*SMOKE, *words]).device == "cuda"


def test_a_search_that_held_idle_gpus_goes_on_with_one_a_process(tmp_path: Path) -> None:
    made = experiment_of([*SMOKE, "--gpus-per-trial", "1"])
    again = Experiment.from_description(
        made.name, {**made.describe(), "gpus_per_trial": 2.0}, tmp_path
    )
    assert again.demand.gpus == 1


def test_a_dry_run_of_a_cluster_says_that_it_was_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = experiment_of([*SMOKE, "--set", "data.train_limit=100"])
    lines = estimate_search(experiment).lines(experiment)
    assert any("a dry run does not contact the cluster" in line for line in lines)
    assert any("on this machine (cpu)" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "here", "measured"),
    [
        ([], CARD, ("cuda", 1)),
        (["--gpus-per-trial", "0.25"], CARD, ("cuda", 4)),
        (["--workers", "2"], CARD, ("cpu", 2)),  # the cluster has two GPUs, this machine one
        (["--device", "cuda"], BARE, ("cpu", 4)),
        (["--cpus-per-trial", "8"], CARD, ("cpu", 1)),
        (["--workers", "16", "--device", "cpu"], BARE, ("cpu", 1)),
    ],
)
def test_a_dry_run_of_a_cluster_needs_nothing_that_the_cluster_has(
    words: list[str], here: Resources, measured: tuple[str, int]
) -> None:
    assert measured_on(experiment_of([*SMOKE, *words]), here) == measured


@pytest.mark.parametrize(
    "words",
    [
        ["--budget", "1gpu-hour"],
        ["--device", "cuda", "--budget", "1gpu-hour"],
        ["--workers", "8", "--cpus-per-trial", "64"],
    ],
)
def test_a_dry_run_of_a_cluster_is_planned_on_a_machine_without_gpus(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(
        "trainables.evaluation.estimate.epochs_seconds",
        lambda configs, *given, **options: [1.0] * len(configs),
    )
    experiment = experiment_of([*SMOKE, "--set", "data.train_limit=100", *words])
    lines = estimate_search(experiment).lines(experiment)
    assert any("at once on this machine (cpu)" in line for line in lines)
    assert any("the budget" in line for line in lines) == ("--budget" in words)
    assert any("a dry run does not contact the cluster" in line for line in lines)
