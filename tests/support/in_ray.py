"""Ask real workers all questions of `test_pool`, and print the answers as JSON.

It runs in a process of its own because Ray reads its environment when it is imported.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cluster.runtime.resources import Demand, Resources
from cluster.runtime.session import session
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.execution.job import Job
from search.journal.journal import Journal
from search.spaces.smoke import space
from trainables.config import TrialConfig
from trainables.datasets.load import load
from trainables.messages import TrialRequest, decode_reports

CONFIGS = [
    TrialConfig().override(
        {
            "optimizer.lr": lr,
            "model.dropout": 0.3,
            "epochs": 2,
            "data.train_limit": 300,
            "augment.crop": 1,
            "precision": precision,
        }
    )
    for lr, precision in ((0.001, "fp32"), (0.01, "bf16"), (0.003, "fp32"))
]
EXACT = [config.override({"precision": "fp32"}) for config in CONFIGS]


def jobs(folder: Path, configs: list[TrialConfig]) -> list[Job]:
    return [
        Job(f"t{number}", config.to_dict(), str(folder / f"t{number}"), TrialRequest())
        for number, config in enumerate(configs)
    ]


def metrics_of(report: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in decode_reports(report["reports"])[0].metrics.items()
        if name != "time/epoch_s"
    }


class Asked:
    """Each method is a question; its answer must survive JSON."""

    def __init__(self, folder: Path) -> None:
        import ray

        from search.execution.pool import Workers

        self.ray, self.folder = ray, folder
        self.experiment = Experiment(
            name="asked",
            space_name="smoke",
            space=space(),
            base=CONFIGS[0],
            storage=folder,
            trials=1,
        )
        self.workers = Workers(self.experiment, load(CONFIGS[0].data), {"code": "c0de"})

    def fresh(self, job: Job) -> Any:
        self.workers.start(1)
        return self.workers.hire(job, {})

    def train(self, worker: Any) -> list[dict[str, float]]:
        return [metrics_of(self.ray.get(worker.train.remote())) for _ in range(2)]

    def cold(self) -> Any:
        """Train each trial on a fresh worker."""
        return [self.train(self.fresh(job)) for job in jobs(self.folder / "cold", CONFIGS)]

    def warm(self) -> Any:
        """Train all trials on one worker, in turn."""
        first, *others = jobs(self.folder / "warm", CONFIGS)
        worker = self.fresh(first)
        found = [self.train(worker)]
        for job in others:
            worker.reset.remote(job)
            found.append(self.train(worker))
        return found

    def side_by_side(self) -> Any:
        """Train two trials on two workers at the same time."""
        pair = [self.fresh(job) for job in jobs(self.folder / "pair", CONFIGS[:2])]
        epochs = [self.ray.get([worker.train.remote() for worker in pair]) for _ in range(2)]
        return [[metrics_of(reports[number]) for reports in epochs] for number in range(2)]

    def exact(self) -> Any:
        """Train in float32, each trial alone."""
        return [self.train(self.fresh(job)) for job in jobs(self.folder / "exact", EXACT)]

    def fused(self) -> Any:
        """Train in float32, all trials as one network.

        Returns the metrics of each, and the number of processes.
        """
        self.workers.share(3, 1)
        members = [self.workers.hire(job, {}) for job in jobs(self.folder / "fused", EXACT)]
        processes = len(
            {tuple(self.ray.get(member.get_current_ip_pid.remote())) for member in members}
        )
        epochs = [self.ray.get([member.train.remote() for member in members]) for _ in range(2)]
        return {
            "metrics": [[metrics_of(reports[number]) for reports in epochs] for number in range(3)],
            "processes": processes,
        }

    def places(self) -> Any:
        """Return the number of places taken in each of two workers.

        They are counted after two trials, and after one of these has been given back.
        """
        self.workers.share(2, 2)
        first, _ = (self.workers.hire(job, {}) for job in jobs(self.folder / "places", CONFIGS[:2]))
        taken = [len(shared.taken) for shared in self.workers.shared]
        self.workers.take_back(first, over=False)
        return [taken, sorted(len(shared.taken) for shared in self.workers.shared)]

    def after_death(self) -> Any:
        """Return the error of a killed worker's member, and the next trial's number of epochs."""
        self.workers.share(2, 1)
        job, other = jobs(self.folder / "death", CONFIGS[:2])
        member = self.workers.hire(job, {})
        self.ray.get(member.train.remote())
        self.ray.kill(self.workers.shared[0].process)
        try:
            self.ray.get(member.train.remote())
        except self.ray.exceptions.RayActorError as error:
            raised = type(error).__name__
        self.workers.take_back(member, over=False)
        return [raised, len(self.train(self.workers.hire(other, {})))]

    def slow_start(self) -> Any:
        """Return the epochs of a trial that is asked to train before its worker has heard of it."""
        from search.execution import pool
        from search.execution.worker import FusedWorker

        begun = self.folder / "begun"
        os.mkfifo(begun)

        class Slow(FusedWorker):
            def reset(self, place: str, job: Any) -> bool:
                begun.read_text()
                return super().reset(place, job)

        with patch.multiple(pool, FusedWorker=Slow, START_S=0.0):
            self.workers.share(2, 1)
            member = self.workers.hire(jobs(self.folder / "slow", CONFIGS[:1])[0], {})
        # It has started, and one of its threads waits until there is something to read.
        self.ray.get(member.get_current_ip_pid.remote())
        first = member.train.remote()
        self.ray.wait([first], timeout=1)  # it would fail, if it were not held back
        begun.write_text("")
        return [metrics_of(self.ray.get(first)), metrics_of(self.ray.get(member.train.remote()))]

    def never_stops(self) -> Any:
        """Return the trials' outcomes in a search whose shared worker never ends a trial's stop."""
        from threading import Event

        from search.execution import pool
        from search.execution.tune import tune_search
        from search.execution.worker import FusedWorker

        class Stuck(FusedWorker):
            def stop(self, place: str) -> None:
                if place in self._jobs:
                    Event().wait()

        experiment = replace(self.experiment, name="stuck", trials=2)
        driver = Driver(experiment, Journal(self.folder / "stuck"))
        with patch.object(pool, "FusedWorker", Stuck):
            self.workers.share(2, 1)
            tune_search(driver, self.workers, slots=2, tick=lambda: None)
        return [trial.outcome for trial in driver.trials.values()]

    def after_the_last_trial(self) -> Any:
        """Return the processes that evaluate, and the one asked for next.

        None of them is there before.
        """
        evaluations = self.measured("next")
        return [
            self.ray.get(worker.get_current_ip_pid.remote())[1]
            for worker in (*evaluations.crew, self.workers.for_test())
        ]

    def no_place(self) -> Any:
        """Return why a trial is not evaluated when there is no place for a worker."""
        self.workers.demand = Demand(gpus=1)
        return self.measured("nobody", hang_timeout=2).reasons

    def measured(self, name: str, **changes: Any) -> Any:
        """Return the outcomes of the evaluations of a search with one trial."""
        from search.execution.evaluation import Evaluations
        from trainables.trial import run_trial

        driver = Driver(
            experiment := replace(self.experiment, name=name, **changes),
            Journal(self.folder / name),
        )
        trial, config = driver.suggest() or ("", CONFIGS[0])
        driver.running(trial)
        for report in run_trial(config, load(config.data), experiment.trial_folder(trial)):
            driver.report(trial, report)
        evaluations = Evaluations(driver, self.workers, driver.result.ranking, [], lambda: None)
        evaluations.measure(1)
        return evaluations


QUESTIONS = (
    "cold",
    "warm",
    "side_by_side",
    "exact",
    "fused",
    "places",
    "after_death",
    "slow_start",
    "never_stops",
    "after_the_last_trial",
    "no_place",
)


def main() -> None:
    folder = Path(sys.argv[1])
    with session("local", local=Resources(cpus=4)):
        print(json.dumps({name: getattr(Asked(folder), name)() for name in QUESTIONS}))


if __name__ == "__main__":
    main()
