"""The pool of worker processes that train and evaluate.

Workers are started early, train trials for Tune one after another, and then evaluate.

Processes that Tune starts itself import Tune, which takes two seconds more, and serve only one
search. Instead, Tune takes workers from this pool (`hire`), which import torch while Tune itself is
being imported, and returns them (`take_back`). On a cluster, CPU workers outlive the search by five
minutes, so that the next search of the same user with the same code can reuse them.
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
from search.execution.job import Job
from search.execution.worker import FusedWorker, TrialWorker
from search.journal.provenance import working_fingerprint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.values import Json

NAMESPACE = "image-classifier-search"
ANSWER_S = 1.0
"""Seconds in which a worker of an earlier search must answer that it is free. A worker that trains
cannot answer.
"""
ALIVE_S, START_S = 10.0, 20.0
"""Seconds that a worker may take to answer that it is alive, and to accept its first job."""
SPARE_THREADS = 4
"""Threads of a shared worker for short calls, in addition to one per trial."""

Worker = Any
"""The handle of a `TrialWorker` actor."""


class Workers:
    """The workers of one search.

    While a worker trains a trial of its own, only Tune refers to it (`hire`). At other times it is
    in one of these lists:

    | list | its workers | added by | removed by |
    |---|---|---|---|
    | `idle` | are ready to train | `start`, `reuse_returned` | `hire` |
    | `shared` | train several trials each, which Tune sees as `Member`s | `share`, `resize` |
      `resize`, once a worker that should leave is empty |
    | `returned` | have trained; on this machine they may train again | `take_back`, at the end of a
      search | `reuse_returned`, if more trials are requested |
    | `evaluating` | were started to evaluate | `for_test`, `keep` | never |
    | `warm` | remain from an earlier search on the cluster, by node | `_claim_warm` | `hire` |

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

    @property
    def threads(self) -> int:
        """The number of threads of each worker."""
        return max(1, int(self.demand.cpus))

    def start(self, count: int) -> None:
        """Start this number of workers ahead of Tune, if they train on the CPUs of this machine.

        On GPUs, on a cluster, and with several workers per trial, they start with their trials:
        only then is it known on which node or GPU.
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

        If the search is `over`, the worker is kept for the evaluation. Otherwise it ends with its
        last handle, or is killed here if it is detached. The process that leads a trial on several
        workers is left to Tune.
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

        On a cluster they only evaluate, since Tune may have reserved another node than theirs.
        """
        if self.is_local:
            self.idle, self.returned = self.idle + self.returned, []

    def for_test(self) -> Worker:
        """Return a worker for the evaluation: one that is alive, or else a new one."""
        for worker in self._living():
            return worker
        self.evaluating.append(self._new_for_test())
        return self.evaluating[-1]

    def crew(self, count: int, *, started: int) -> list[Worker]:
        """Return at most `count` workers, and at least one, for the evaluation.

        If none is alive, or trials had a GPU worker each, new ones are started until there are
        `started` in all. Some may find no free resources: call `keep` for those that start.
        """
        living = list(islice(self._living(), count))
        more = (
            started - len(living)
            if not living or (self.device != "cpu" and self.members == 1)
            else 0
        )
        return living + [self._new_for_test() for _ in range(more)]

    def keep(self, worker: Worker) -> None:
        """Keep a worker of `crew` that is ready, so that it can be reused after the last trial."""
        if worker not in (
            *self.evaluating,
            *self.returned,
            *self.idle,
            *(shared.process for shared in self.shared),
        ):
            self.evaluating.append(worker)

    def _living(self) -> Iterator[Worker]:
        """Yield the workers that are alive and no longer train.

        GPU workers that trained one trial at a time have ended with their reservations.
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

        Surplus shared workers take no more trials: first those that have not started, then those
        with the fewest trials. They end once they are empty, or immediately if they have not
        started; in that case their trials are retried.
        """
        self.count = count
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
        """Kill the shared workers that should leave and have no trials, or have not started."""
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
        """Have a worker choose how to train configurations like these (`RayProcess.plan`).

        Args:
            configs: sampled configurations; the first is measured.
            trials: the maximal number of trials per worker.
            processes: images per second by the number of processes on one GPU, from `rates`.
            patience_s: the maximal seconds to wait.

        Returns:
            The fields of a `TrainingPlan` by name.

        Raises:
            GetTimeoutError: it takes longer than `patience_s`.
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
        """Measure the images per second of `count` workers together that train at once on one GPU.

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
        """Wait for an answer; return a list with the first one, empty after `timeout_s`."""
        return ray.wait(pending, timeout=timeout_s)[0]

    def get(self, answer: Any) -> Any:
        """Wait for an answer and return it, or raise its error (`raised` or `broken`)."""
        return ray.get(answer)

    def kill(self, worker: Worker) -> None:
        """Kill a worker that no longer responds."""
        ray.kill(worker)

    def close(self) -> None:
        """Release all workers; detached ones then wait for another search."""
        for worker in self.claimed:
            worker.release.remote()
        self.shared, self.idle, self.returned, self.evaluating, self.claimed = [], [], [], [], []

    @property
    def _arguments(self) -> dict[str, Any]:
        """The arguments of every worker; it `moves` on a cluster, whose nodes may be drained."""
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
        """Return a place in the shared worker with the most room, which has received the job.

        A worker that has died is replaced; on a cluster only if the others are full, since there
        may be no resources for a new one. If the new one dies too, or cannot start yet, a place in
        it is returned nevertheless, and Tune will notice the failure.
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
        """Claim free workers of earlier searches; return them by the id of their node.

        All such workers are asked at once. Those that do not answer within `ANSWER_S`, and those
        beyond `count`, are released.
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
    """A `FusedWorker`, with the places in it that are taken, and whether it should leave."""

    def __init__(self, process: Worker) -> None:
        self.process, self.taken, self.leaving = process, set[str](), False
        self.starting: Any = None

    def wait(self) -> None:
        """Mark it as not started; until it answers, other workers are preferred."""
        self.starting = self.process.get_current_ip_pid.remote()

    @property
    def is_up(self) -> bool:
        """True if it has started, as far as is known; it may have died since."""
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
        until the worker has the job. Otherwise it could overtake this call in another thread.
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
