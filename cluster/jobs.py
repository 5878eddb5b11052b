"""A job on a cluster: submit it, follow it, stop it.

This is the only module that uses Ray's client for jobs.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster import auth
from cluster.errors import Mistake, NotReady
from cluster.versions import TRIED_VERSIONS, problems

STOP_WAIT_S = 60
"""The time that a job gets to stop after SIGTERM, before Ray kills it.

Ray's default of three seconds is too short for a search to pause.
"""


class Jobs:
    """The jobs of one cluster, reached by its dashboard's address."""

    def __init__(self, url: str, *, printed_chars: int = 0) -> None:
        """Connect to the dashboard.

        Args:
            url: the dashboard's address.
            printed_chars: the number of characters of the job's output that an earlier connection
                has printed.

        Raises:
            Mistake: this version of Ray was never tried.
            NotReady: nothing answers, or the token is not this cluster's.
        """
        for problem in problems({"ray": TRIED_VERSIONS["ray"]}):
            raise Mistake(problem)
        self.printed_chars = printed_chars
        auth.token()
        os.environ.setdefault("RAY_AUTH_MODE", auth.MODE["RAY_AUTH_MODE"])
        from ray.job_submission import JobSubmissionClient

        self._client: Any = _call_ray(lambda: JobSubmissionClient(url))
        for name in (
            "ray.dashboard.modules.dashboard_sdk",
            "ray.dashboard.modules.job.sdk",
            "ray._private.runtime_env.packaging",
        ):
            logging.getLogger(name).setLevel(logging.ERROR)

    def submit(self, entrypoint: str, folder: Path, environment: dict[str, str]) -> str:
        """Ship the folder, start the command in it on the head, and return the job's id."""
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), **environment}
        environment_of_job = {"working_dir": str(folder), "env_vars": variables}
        return str(
            _call_ray(
                lambda: self._client.submit_job(
                    entrypoint=entrypoint, runtime_env=environment_of_job
                )
            )
        )

    def follow(self, job: str, write: Callable[[str], None]) -> None:
        """Pass the job's new output to `write` until the job ends or the connection breaks."""

        from aiohttp import ClientError

        async def read() -> None:
            received_chars = 0
            async for text in self._client.tail_job_logs(job):
                # Ray sends the whole output at each connection: skip the part that was printed.
                new = text[max(0, self.printed_chars - received_chars) :]
                received_chars += len(text)
                if new:
                    self.printed_chars = max(self.printed_chars, received_chars)
                    write(new)

        # These errors mean that the connection broke; the caller checks if the job has ended.
        with suppress(RuntimeError, OSError, ValueError, ClientError):
            asyncio.run(read())

    def outcome(self, job: str) -> tuple[str, int | None, str] | None:
        """The outcome of an ended job, or None while it runs.

        It is the job's status, its exit code if its command was started, and Ray's message on the
        reason.
        """
        info = _call_ray(lambda: self._client.get_job_info(job))
        status = str(info.status.value)
        if status not in ("SUCCEEDED", "FAILED", "STOPPED"):
            return None
        return status, info.driver_exit_code, str(info.message or "")

    def stop(self, job: str) -> None:
        """Stop the job by SIGTERM, and by SIGKILL `STOP_WAIT_S` later."""
        _call_ray(lambda: self._client.stop_job(job))


def _call_ray(ask: Callable[[], Any]) -> Any:
    """Call Ray's client; turn its errors into one line.

    Raises:
        NotReady: the call failed.
    """
    try:
        return ask()
    except (OSError, RuntimeError, ValueError) as error:  # requests' own errors are OSErrors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotReady(
            f"the cluster's jobs cannot be reached ({reason}). See: python -m cluster.status FILE"
        ) from error
