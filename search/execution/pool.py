"""The processes that train.

They are started early, handed to Tune for one trial after another, and kept for the test and the
next search.

Tune would start them itself, each in an environment of its own and with Tune inside: two seconds
later, and for one search alone. Here it is handed workers (`hire`) that have imported torch while
Tune was still being imported, and gives them back (`take_back`). On a cluster that stays up,
workers on CPUs outlive the search by five minutes, and the next search of the same user and code
uses them.
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
"""Seconds that a worker of an earlier search may take to say that it is free: one that trains
cannot answer.
"""
ALIVE_S, START_S = 10.0, 20.0
SPARE_THREADS = 4
"""Threads of a shared worker in addition to one for each of its trials, for calls in between."""

Worker = Any
"""The handle of a `TrialWorker` actor."""


class Workers:
    """The workers of one search.

    While a worker trains a trial of its own, Tune has it (`hire`), and no list here does. At other
    times its list says what it is for:

    | list | its workers | where from | where to |
    |---|---|---|---|
    | `idle` | may train | `start`, `reuse_returned` | `hire` |
    | `shared` | train several trials each, which Tune has as `Member`s | `share`, `resize` | they
      stay; one that is to leave ends once it is empty |
    | `returned` | have trained; on this machine they may train again | `take_back`, at the end of a
      search | `idle`, if more trials are asked for |
    | `evaluating` | were started to evaluate | `for_test`, `keep` | they stay |
    | `warm` | were left by an earlier search on the cluster, by node | `_claim_warm` | `hire` |

    On a cluster, `claimed` has all that outlive this search besides: they are released at its end.
    """

    raised, broken = ray.exceptions.RayTaskError, ray.exceptions.RayError

    def __init__(
        self, experiment: Experiment, dataset: Dataset, provenance: dict[str, str]
    ) -> None:
        """Take `provenance` to tell workers of other code or versions apart."""
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
        """The number of trials that share a worker."""
        self.count = 0
        """The number of workers that train at once."""
        self.idle: list[Worker] = []
        self.shared: list[Shared] = []
        self.returned: list[Worker] = []
        self.evaluating: list[Worker] = []
        self.warm: dict[str, list[Worker]] | None = None  # None before they were looked for
        self.claimed: list[Worker] = []

    @property
    def threads(self) -> int:
        """The number of threads of each worker."""
        return max(1, int(self.demand.cpus))

    def start(self, count: int) -> None:
        """Start as many workers as will be needed, where their place and resources are known.

        That is so on this machine, on its CPUs, for trials of one worker each.
        """
        self.count = count
        if self.is_local and self.device == "cpu" and self.demand.workers == 1:
            self.idle = [self._new(num_cpus=0) for _ in range(count)]

    def hire(self, job: Job, options: dict[str, Any]) -> Worker:
        """Return a worker with this trial to train, where Tune has reserved what `options` ask for.

        On CPUs a worker holds no resources of its own, since it outlives a reservation; on GPUs Ray
        shows a process the cards that it holds.
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
        """Take back a worker that Tune needs no more.

        When the search is `over`, the worker may still evaluate. Otherwise it ends with its last
        handle, or here. The process that leads a trial of several workers is left to Tune.
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
        """Let the workers that were given back train again: more trials were asked for.

        Those of a cluster only evaluate: Tune may have reserved another node than theirs.
        """
        if self.is_local:
            self.idle, self.returned = self.idle + self.returned, []

    def for_test(self) -> Worker:
        """Return a worker for what comes after the last trial.

        It is one that has trained, if such a worker is still alive.
        """
        for worker in self._living():
            return worker
        self.evaluating.append(self._new_for_test())
        return self.evaluating[-1]

    def crew(self, count: int, *, started: int) -> list[Worker]:
        """Return at most `count` workers, and at least one, for what comes after the last trial.

        On GPUs most of them are started for it now, until there are `started` workers in all, and
        some of them may find no place: `keep` those that do.
        """
        living = list(islice(self._living(), count))
        more = (
            started - len(living)
            if not living or (self.device != "cpu" and self.members == 1)
            else 0
        )
        return living + [self._new_for_test() for _ in range(more)]

    def keep(self, worker: Worker) -> None:
        """Keep a worker of a crew that is ready, for what else comes after the last trial."""
        if worker not in (
            *self.evaluating,
            *self.returned,
            *self.idle,
            *(shared.process for shared in self.shared),
        ):
            self.evaluating.append(worker)

    def _living(self) -> Iterator[Worker]:
        """Yield workers that are alive and have nothing to train any more.

        On a GPU, workers that trained one trial at a time ended with their reservations.
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
        """Let this many trials share a worker from now on, with this many workers."""
        self.members = members
        if members > 1:
            self.idle = []
            self.shared = [self._new_shared() for _ in range(count)]

    def resize(self, count: int) -> int:
        """Have this many workers from now on, and return how many of them are up.

        Of the workers that trials share, the fullest stay. The others take no more trials and end
        when they are empty, or at once if they have found no place to start in: their trials are
        tried again.
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
        """End the workers that are to leave and train nothing."""
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
        """Return the answer of a worker's planner (`TrialWorker.plan`)."""
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
        """Return the images a second of this many workers on one GPU, all at once."""
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
        """Call a worker's method, and return the pending answer."""
        return getattr(worker, method).remote(*arguments)

    def wait(self, pending: list[Any], timeout_s: float) -> list[Any]:
        """Return one of these answers that has come, or none if none comes in time."""
        return ray.wait(pending, timeout=timeout_s)[0]

    def get(self, answer: Any) -> Any:
        """Return an answer, once it is there."""
        return ray.get(answer)

    def kill(self, worker: Worker) -> None:
        """End a worker that gives no answer any more."""
        ray.kill(worker)

    def close(self) -> None:
        """Let go of all workers; those that stay wait for another search."""
        for worker in self.claimed:
            worker.release.remote()
        self.shared, self.idle, self.returned, self.evaluating, self.claimed = [], [], [], [], []

    @property
    def _arguments(self) -> dict[str, Any]:
        """The arguments that every worker gets; on a cluster a machine may be taken away."""
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
        """Return a place in the worker with the most room, once the worker has heard of the job.

        A worker that has died is replaced; on a cluster only if there is no room in another, since
        there may be no place for a new one. If the new one dies too, or none can start yet, the
        place is returned all the same, and Tune will see the failure.
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
        """Return a worker of an earlier search on this node, or None."""
        if self.warm is None:
            self.warm = self._claim_warm()
        return self.warm[node].pop() if self.warm.get(node) else None

    def _claim_warm(self) -> dict[str, list[Worker]]:
        """Claim the free workers of earlier searches; return them by node.

        All are asked at once, and those beyond what is needed are released.
        """
        claim, claims = uuid4().hex, dict[Any, tuple[str, Worker]]()
        for actor in ray.util.list_named_actors(all_namespaces=True):
            key, *node = actor["name"].split(" ")
            if actor["namespace"] == NAMESPACE and key == self.key:
                with suppress(ValueError):  # it has ended since
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
    """A `FusedWorker`, the places in it that are taken, and whether it is to leave."""

    def __init__(self, process: Worker) -> None:
        self.process, self.taken, self.leaving = process, set[str](), False
        self.starting: Any = None

    def wait(self) -> None:
        """Note that it has not started yet: other workers are preferred until it answers."""
        self.starting = self.process.get_current_ip_pid.remote()

    @property
    def is_up(self) -> bool:
        """True if it has started, as far as is known; whether it is alive shows when it is used."""
        if self.starting is not None and ray.wait([self.starting], timeout=0)[0]:
            self.starting = None
        return self.starting is None


class Member:
    """One place in a worker that several trials share.

    To Tune it is an actor of its own: a method called here is called on the worker, with the place.
    """

    def __init__(self, worker: Shared) -> None:
        self.worker, self._name = worker, uuid4().hex
        self._heard: list[Any] = []
        worker.taken.add(self._name)

    def hear(self, job: Job) -> Any:
        """Tell the worker at this place what to train, and return the pending answer.

        Until the worker has heard it, Ray holds back further training calls at this place: the
        worker has several threads, and a later call could overtake this one.
        """
        self._heard = [self.reset.remote(job)]
        return self._heard[0]

    def leave(self) -> None:
        """Free the place."""
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
    """A method of a shared worker, at one place."""

    def __init__(self, method: Any, *where: Any) -> None:
        self._method, self._where = method, where

    def remote(self, *arguments: Any, **options: Any) -> Any:
        """Call the method."""
        return self._method.remote(*self._where, *arguments, **options)


def _node_of(placement_group: Any) -> str:
    """Return the node where a placement group of one bundle lies."""
    (node,) = ray.util.placement_group_table(placement_group)["bundles_to_node_id"].values()
    return str(node)
