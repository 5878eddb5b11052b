"""A job on a cluster: submitted, followed, stopped. The only place that uses Ray's client for jobs."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster import auth
from cluster.errors import Mistake, NotReady
from cluster.versions import TRIED, problems

STOP_WAIT_S = 60
"""How long a job that is asked to stop may take, before Ray kills it; its own three seconds are too
few for a search to pause.
"""


class Jobs:
    """The jobs of one cluster, by its dashboard's address."""

    def __init__(self, url: str, *, seen: int = 0) -> None:
        """Connect. Of what a job prints, so many letters have been seen before.

        Raises:
            Mistake: this version of Ray was never tried.
            NotReady: nothing answers, or the token is not this cluster's.
        """
        for problem in problems({"ray": TRIED["ray"]}):
            raise Mistake(problem)
        self.seen = seen
        auth.token()
        os.environ.setdefault("RAY_AUTH_MODE", auth.MODE["RAY_AUTH_MODE"])
        from ray.job_submission import JobSubmissionClient

        self._client: Any = _heard(lambda: JobSubmissionClient(url))
        for name in (
            "ray.dashboard.modules.dashboard_sdk",
            "ray.dashboard.modules.job.sdk",
            "ray._private.runtime_env.packaging",
        ):
            logging.getLogger(name).setLevel(logging.ERROR)

    def submit(self, entrypoint: str, folder: Path, environment: dict[str, str]) -> str:
        """Ship the folder and start the command in it, on the head; the job's id."""
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), **environment}
        environment_of_job = {"working_dir": str(folder), "env_vars": variables}
        return str(
            _heard(
                lambda: self._client.submit_job(
                    entrypoint=entrypoint, runtime_env=environment_of_job
                )
            )
        )

    def follow(self, job: str, write: Callable[[str], None]) -> None:
        """Hand on what the job prints and has not been seen yet, until it ends or the connection
        does.
        """

        from aiohttp import ClientError

        async def read() -> None:
            passed = 0
            async for text in self._client.tail_job_logs(job):
                new = text[max(0, self.seen - passed) :]
                passed += len(text)
                if new:
                    self.seen = max(self.seen, passed)
                    write(new)

        with suppress(
            RuntimeError, OSError, ValueError, ClientError
        ):  # the connection broke; the caller looks whether the job has ended
            asyncio.run(read())

    def ended(self, job: str) -> tuple[str, int | None, str] | None:
        """How the job ended: its status, its exit code if it came so far, and a word on why not.
        None while it runs.
        """
        info = _heard(lambda: self._client.get_job_info(job))
        status = str(info.status.value)
        if status not in ("SUCCEEDED", "FAILED", "STOPPED"):
            return None
        return status, info.driver_exit_code, str(info.message or "")

    def stop(self, job: str) -> None:
        """Ask it to stop: SIGTERM, and SIGKILL a minute later."""
        _heard(lambda: self._client.stop_job(job))


def _heard(ask: Callable[[], Any]) -> Any:
    """What Ray's client answers; what it cannot do in one line.

    Raises:
        NotReady: no answer, or one that says no.
    """
    try:
        return ask()
    except (OSError, RuntimeError, ValueError) as error:  # requests' own errors are OSErrors
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotReady(
            f"the cluster's jobs cannot be reached ({said}). See: python -m cluster.status FILE"
        ) from error
