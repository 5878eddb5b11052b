"""The pool of worker processes that train and evaluate.

Workers are started early, train trials for Tune one after another, and then evaluate.

Processes that Tune starts itself import Tune, which takes two seconds more, and serve only one
search. Instead, Tune takes workers from this pool (`hire`) and returns them (`take_back`). The
workers import torch while the driver's process imports Tune. On a cluster, CPU workers outlive the
search by five minutes, so that the next search of the same user with the same code can reuse them.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any
from uuid import uuid4

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from cluster.runtime.session import LOCAL
from search.design.experiment import Experiment
from search.execution.data_parallel import END_S, Teams, TeamSetup
from search.execution.job import Job
from search.execution.worker import FusedWorker, TrialWorker
from search.journal.provenance import working_fingerprint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.values import Json

NAMESPACE = "image-classifier-search"
ANSWER_S = 1.0
"""Maximal seconds for a worker of an earlier search to answer that it is free. A worker that trains
cannot answer.
"""
ALIVE_S, START_S = 10.0, 20.0
"""Maximal seconds for a worker to answer that it is alive (`ALIVE_S`), and for a shared worker to
accept a job (`START_S`).
"""
SPARE_THREADS = 4
"""Threads of a shared worker for short calls, in addition to one per trial."""

Worker = Any
"""The handle of a `TrialWorker` actor."""


class Workers:
    """The workers of one search.

    While a worker trains one trial, only Tune has a reference to it (`hire`). At other times it is
    in one of these lists:

    | list | its workers | added by | removed by |
    |---|---|---|---|
    | `idle` | are ready to train | `start`, `reuse_returned` | `hire` |
    | `shared` | train several trials each, which Tune sees as `Member`s | `share`, `resize`,
      `_place` | `_end_leaving`, or `_place` if the worker has died |
    | `returned` | have trained; on this machine they may train again | `take_back`, at the end of a
      search | `reuse_returned`, if more trials are requested |
    | `evaluating` | were started for the evaluation | `for_test`, `keep` | never |
    | `warm` | are left from an earlier search on the cluster, by node | `_claim_warm` | `hire` |

    On a cluster, `claimed` also lists all workers that outlive this search; `close` releases them.
    """

    raised, broken = ray.exceptions.RayTaskError, ray.exceptions.RayError

    def __init__(
        self, experiment: Experiment, dataset: Dataset, provenance: dict[str, str]
    ) -> None:
        """Store the data in Ray's object store; no worker is started yet.

        Workers of earlier searches are reused only if their `provenance` is the same, apart from
        the host and the commit.
        """
        self.device, self.demand, self.part = (
            experiment.device,
            experiment.demand,
            experiment.demand.gpus,
        )
        self.is_local = experiment.address == LOCAL
        self.stay = not self.is_local and self.device == "cpu"
        what = [
            {
                name: value
                for name, value in provenance.items()
                if name not in ("host", "git.commit")
            },
            working_fingerprint(),
            self.threads,
        ]
        self.key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        self.dataset = ray.put(dataset.sealed)
        self.members = 1
        """The number of trials per worker."""
        self.count = 0
        """The number of workers that may train at once."""
        self.idle: list[Worker] = []
        self.shared: list[Shared] = []
        self.returned: list[Worker] = []
        self.evaluating: list[Worker] = []
        self.warm: dict[str, list[Worker]] | None = None  # None until `_claim_warm`
        self.claimed: list[Worker] = []
        self.teams: Any = None
        """The actor with the teams (`data_parallel.Teams`); None unless they train now."""

    @property
    def threads(self) -> int:
        """The number of threads of each worker."""
        return max(1, int(self.demand.cpus))

    def start(self, count: int) -> None:
        """Start `count` workers before Tune needs them, if they train on the CPUs of this machine.

        On GPUs, on a cluster, and with several workers per trial, each worker starts with its
        trial, since its node or GPU is not known before.
        """
        self.count = count
        if self.is_local and self.device == "cpu" and self.demand.workers == 1:
            self.idle = [self._new(num_cpus=0) for _ in range(count)]

    def hire(self, job: Job, options: dict[str, Any]) -> Worker:
        """Return a worker that has received this job, on the node that Tune has reserved.

        A CPU worker holds no resources in Ray, since it outlives Tune's reservation. A GPU worker
        is started with the reserved resources (`options`), since Ray shows a process only the GPUs
        that it holds.
        """
        if self.members > 1:
            return self._place(job)
        if self.device != "cpu":
            worker: Worker = self._new(**options)
        elif self.idle:
            worker = self.idle.pop()
        else:
            node = _node_of(options["scheduling_strategy"].placement_group)
            worker = (self._take_warm(node) if self.stay else None) or self._new_on(node)
        worker.open.remote(self.dataset)
        worker.reset.remote(job)
        return worker

    def take_back(self, worker: Worker, *, over: bool) -> None:
        """Take back a worker that Tune no longer needs.

        If the search is `over`, the worker is kept for the evaluation. Otherwise its process ends:
        a detached actor is killed here, and Ray ends any other actor when no handle to it is left.
        If a trial uses several workers, Tune itself ends the process that leads them.
        """
        if isinstance(worker, Member):
            worker.leave()
            self._end_leaving()
        elif self.demand.workers > 1:
            return
        elif over:
            self.returned.append(worker)
        elif self.stay:
            with suppress(ray.exceptions.RayError):
                ray.kill(worker)

    def reuse_returned(self) -> None:
        """Make the returned workers available for training again, since more trials follow.

        On a cluster, returned workers only evaluate, since Tune may reserve a different node for
        the next trial.
        """
        if self.is_local:
            self.idle, self.returned = self.idle + self.returned, []

    def for_test(self) -> Worker:
        """Return a worker that is alive for the evaluation; start one if there is none."""
        for worker in self._living():
            return worker
        self.evaluating.append(self._new_for_test())
        return self.evaluating[-1]

    def crew(self, count: int, *, started: int) -> list[Worker]:
        """Return at most `count` workers, and at least one, for the evaluation.

        If no worker is alive, or if each trial had its own GPU worker, new workers are started
        until there are `started` in total. Ray may lack the resources to start some of them, so
        call `keep` for those that have started.
        """
        living = list(islice(self._living(), count))
        more = (
            started - len(living)
            if not living or (self.device != "cpu" and self.members == 1)
            else 0
        )
        return living + [self._new_for_test() for _ in range(more)]

    def keep(self, worker: Worker) -> None:
        """Register a worker of `crew` that is ready, so that `for_test` can reuse it."""
        if worker not in (
            *self.evaluating,
            *self.returned,
            *self.idle,
            *(shared.process for shared in self.shared),
        ):
            self.evaluating.append(worker)

    def _living(self) -> Iterator[Worker]:
        """Yield the workers that are alive and no longer train.

        GPU workers that trained one trial at a time are skipped: they have ended together with
        Tune's reservation of the GPU.
        """
        for worker in [
            *self.evaluating,
            *(shared.process for shared in self.shared),
            *(self.returned + self.idle if self.device == "cpu" else []),
        ]:
            with suppress(ray.exceptions.RayError):
                ray.get(worker.get_current_ip_pid.remote(), timeout=ALIVE_S)
                yield worker

    def _new_for_test(self) -> Worker:
        return self._new(num_cpus=min(1, self.demand.cpus), num_gpus=self.demand.gpus)

    def share(self, members: int, count: int) -> None:
        """Set the number of trials per worker; if it is above 1, start `count` shared workers."""
        self.members = members
        if members > 1:
            self.idle = []
            self.shared = [self._new_shared() for _ in range(count)]

    def resize(self, count: int) -> int:
        """Set the number of workers, and return the number of those that are running.

        If there are more shared workers than `count`, the surplus ones take no more trials. These
        are preferably workers that have not started, then those with the fewest trials. A surplus
        worker ends when it has no trials left. If it has not started, it ends immediately, and its
        trials are retried.
        """
        self.count = count
        if self.teams is not None:
            self.teams.keep.remote(count)
        if self.members == 1:
            return count
        for number, shared in enumerate(
            sorted(self.shared, key=lambda shared: (not shared.is_up, -len(shared.taken)))
        ):
            shared.leaving = number >= count
        for _ in range(count - len(self.shared)):
            self.shared.append(self._new_shared())
            self.shared[-1].wait()
        self._end_leaving()
        return sum(shared.is_up and not shared.leaving for shared in self.shared)

    def _end_leaving(self) -> None:
        """Kill the shared workers that should end, if they have no trials or have not started."""
        for shared in [
            shared
            for shared in self.shared
            if shared.leaving and not (shared.taken and shared.is_up)
        ]:
            self.shared.remove(shared)
            with suppress(ray.exceptions.RayError):
                ray.kill(shared.process)

    def plan(
        self,
        configs: list[TrialConfig],
        trials: int,
        processes: dict[int, float],
        patience_s: float,
    ) -> Json:
        """Let a worker measure the fastest way to train the search's trials (`RayProcess.plan`).

        Args:
            configs: sampled configurations; the first is measured.
            trials: the maximal number of trials per worker.
            processes: maps numbers of processes on one GPU to their total images per second, as
                measured by `rates`.
            patience_s: the maximal seconds to wait.

        Returns:
            The fields of a `TrainingPlan` by name.

        Raises:
            GetTimeoutError: the measurement takes longer than `patience_s`.
        """
        worker = self.idle[0] if self.idle else self._new_for_test()
        answer = worker.plan.remote(
            [config.to_dict() for config in configs],
            self.dataset,
            trials=trials,
            processes=processes,
        )
        packing: Json = ray.get(answer, timeout=patience_s)
        return packing

    def rates(self, config: TrialConfig, count: int, patience_s: float) -> float:
        """Measure the throughput of one GPU on which `count` workers train at the same time.

        Returns:
            The images per second of all workers together.

        Raises:
            GetTimeoutError: starting or measuring takes longer than `patience_s`.
        """
        card = placement_group([{"GPU": self.demand.gpus}])
        try:
            where = PlacementGroupSchedulingStrategy(card)
            beside = [
                self._new(num_cpus=0, num_gpus=self.demand.gpus / count, scheduling_strategy=where)
                for _ in range(count)
            ]
            ray.get([worker.get_current_ip_pid.remote() for worker in beside], timeout=patience_s)
            return float(
                sum(
                    ray.get(
                        [worker.rate.remote(config.to_dict(), self.dataset) for worker in beside],
                        timeout=patience_s,
                    )
                )
            )
        finally:
            remove_placement_group(card)

    def ask(self, worker: Worker, method: str, *arguments: Any) -> Any:
        """Start a call of a worker's method, and return the pending answer."""
        return getattr(worker, method).remote(*arguments)

    def wait(self, pending: list[Any], timeout_s: float) -> list[Any]:
        """Wait for an answer, for at most `timeout_s`; return a list with one answer or none."""
        return ray.wait(pending, timeout=timeout_s)[0]

    def get(self, answer: Any) -> Any:
        """Wait for an answer and return it, or raise its error (`raised` or `broken`)."""
        return ray.get(answer)

    def kill(self, worker: Worker) -> None:
        """Kill a worker that no longer responds."""
        ray.kill(worker)

    def start_teams(self, most: int) -> str:
        """Start the actor that has the teams of a search, and return its name.

        Args:
            most: the number of teams that may exist at once.
        """
        setup = TeamSetup(
            [self.dataset], self.device, self.demand.workers, self.demand.cpus, self.demand.gpus
        )
        name = f"teams {uuid4().hex}"
        self.teams = ray.remote(Teams).options(name=name, num_cpus=0).remote(setup, most)
        return name

    def end_team(self, trial: str) -> None:
        """End the team of a trial that has failed, if it has one."""
        if self.teams is not None:
            self.teams.give_back.remote(trial, is_sound=False)

    def end_teams(self, *, at_once: bool) -> None:
        """End all teams, since the evaluation needs their places; `at_once` to wait for none."""
        if self.teams is not None:
            with suppress(ray.exceptions.RayError):
                if not at_once:
                    ray.get(self.teams.close.remote(), timeout=2 * END_S)
                ray.kill(self.teams)
            self.teams = None

    def close(self) -> None:
        """Release all workers; detached ones then wait for another search."""
        for worker in self.claimed:
            worker.release.remote()
        self.shared, self.idle, self.returned, self.evaluating, self.claimed = [], [], [], [], []

    @property
    def _arguments(self) -> dict[str, Any]:
        """The constructor arguments that all workers have in common.

        `moves` is true on a cluster, where a trial has to move if its node is drained.
        """
        return {"device": self.device, "threads": self.threads, "moves": not self.is_local}

    def _new(self, **options: Any) -> Worker:
        return (
            ray.remote(TrialWorker)
            .options(**options)
            .remote(**self._arguments, gpus=self.part if options.get("num_gpus") else 0)
        )

    def _new_shared(self) -> "Shared":
        process = ray.remote(FusedWorker).options(
            num_cpus=self.demand.cpus,
            num_gpus=self.demand.gpus,
            max_concurrency=self.members + SPARE_THREADS,
        )
        return Shared(process.remote(**self._arguments, dataset=self.dataset, gpus=self.part))

    def _place(self, job: Job) -> "Member":
        """Send a job to the shared worker with the fewest trials, and return its place there.

        A worker that has died is replaced; on a cluster, only if all others are full, since there
        may be no resources for a new one. If the new worker dies too, or cannot start yet, its
        place is returned nevertheless, and Tune will notice the failure.
        """
        for _ in range(2 if self.is_local else 2 + len(self.shared)):
            if not self.is_local and not any(
                len(shared.taken) < self.members for shared in self.shared if not shared.leaving
            ):
                self.shared.append(self._new_shared())
            member = Member(
                min(
                    self.shared,
                    key=lambda shared: (shared.leaving, not shared.is_up, len(shared.taken)),
                )
            )
            try:
                ray.get(member.hear(job), timeout=START_S)
            except ray.exceptions.GetTimeoutError:
                member.worker.wait()
            except ray.exceptions.RayError:
                self.shared.remove(member.worker)
                self.shared += [self._new_shared()] if self.is_local else []
                continue
            return member
        self.shared += [] if self.is_local else [self._new_shared()]
        member = Member(self.shared[-1])
        member.hear(job)
        return member

    def _new_on(self, node: str) -> Worker:
        there: dict[str, Any] = {
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        if self.stay:
            there |= {
                "name": f"{self.key} {node} {uuid4().hex}",
                "namespace": NAMESPACE,
                "lifetime": "detached",
            }
        worker = self._new(**there)
        if self.stay:
            worker.claim.remote(uuid4().hex)
            self.claimed.append(worker)
        return worker

    def _take_warm(self, node: str) -> Worker:
        """Return a claimed worker of an earlier search on this node; None if there is none."""
        if self.warm is None:
            self.warm = self._claim_warm()
        return self.warm[node].pop() if self.warm.get(node) else None

    def _claim_warm(self) -> dict[str, list[Worker]]:
        """Claim free workers of earlier searches, and return them by the id of their node.

        A claim is sent to all such workers at the same time. It is withdrawn from those that do not
        answer within `ANSWER_S`, and from those that exceed `count`.
        """
        claim, claims = uuid4().hex, dict[Any, tuple[str, Worker]]()
        for actor in ray.util.list_named_actors(all_namespaces=True):
            key, *node = actor["name"].split(" ")
            if actor["namespace"] == NAMESPACE and key == self.key:
                with suppress(ValueError):  # the worker has ended meanwhile
                    worker = ray.get_actor(actor["name"], namespace=NAMESPACE)
                    claims[worker.claim.remote(claim)] = node[0], worker
        replies = (
            ray.wait(list(claims), num_returns=len(claims), timeout=ANSWER_S)[0] if claims else []
        )
        warm: dict[str, list[Worker]] = {}
        for reply, (node_id, worker) in claims.items():
            is_free = False
            with suppress(ray.exceptions.RayError):
                is_free = reply in replies and ray.get(reply) and len(self.claimed) < self.count
            if is_free:
                warm.setdefault(node_id, []).append(worker)
                self.claimed.append(worker)
            else:
                worker.release.remote(claim)
        return warm


class Shared:
    """A `FusedWorker`, the names of its occupied places, and whether it should end (`leaving`)."""

    def __init__(self, process: Worker) -> None:
        self.process, self.taken, self.leaving = process, set[str](), False
        self.starting: Any = None

    def wait(self) -> None:
        """Mark the worker as not started, so that others are preferred until it answers."""
        self.starting = self.process.get_current_ip_pid.remote()

    @property
    def is_up(self) -> bool:
        """True if the worker has started, even if it has died since then."""
        if self.starting is not None and ray.wait([self.starting], timeout=0)[0]:
            self.starting = None
        return self.starting is None


class Member:
    """A place in a shared worker.

    Tune treats it as an actor of its own: a call of a method is forwarded to the worker, with the
    name of the place as its first argument.
    """

    def __init__(self, worker: Shared) -> None:
        self.worker, self._name = worker, uuid4().hex
        self._heard: list[Any] = []
        worker.taken.add(self._name)

    def hear(self, job: Job) -> Any:
        """Send a job to the worker for this place, and return the pending answer.

        The answer becomes an argument of the next call of `train`, so that Ray delays that call
        until the worker has the job. Otherwise `train` could run before the job has arrived, since
        the worker handles calls in several threads.
        """
        self._heard = [self.reset.remote(job)]
        return self._heard[0]

    def leave(self) -> None:
        """Free the place for another trial."""
        self.worker.taken.discard(self._name)

    def __getattr__(self, method: str) -> Any:
        if method in ("__ray_ready__", "get_current_ip_pid"):
            return getattr(self.worker.process, method)
        if method == "__ray_terminate__":
            method = "stop"
        if method.startswith("_"):
            raise AttributeError(method)
        return _At(
            getattr(self.worker.process, method),
            self._name,
            *(self._heard if method == "train" else ()),
        )


class _At:
    """A method of a shared worker, bound to a place."""

    def __init__(self, method: Any, *where: Any) -> None:
        self._method, self._where = method, where

    def remote(self, *arguments: Any, **options: Any) -> Any:
        """Start a call of the method, and return the pending answer."""
        return self._method.remote(*self._where, *arguments, **options)


def _node_of(placement_group: Any) -> str:
    """Return the id of the node of a placement group with one bundle."""
    (node,) = ray.util.placement_group_table(placement_group)["bundles_to_node_id"].values()
    return str(node)
