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
"""Time in seconds between SIGTERM and SIGKILL when a job is stopped.

Ray's default of three seconds is too short for a search to pause.
"""


class Jobs:
    """A client for the jobs of one cluster, connected to its dashboard."""

    def __init__(self, url: str, *, printed_chars: int = 0) -> None:
        """Connect to the dashboard.

        Args:
            url: the dashboard's address.
            printed_chars: the number of characters of the job's output that were already printed,
                over an earlier connection.

        Raises:
            Mistake: Ray is missing, or this program was not tested with its version.
            NotReady: no cluster responds, there is no token, or the cluster refuses it.
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
        """Submit a job, and return its id.

        The folder is uploaded to the cluster, and the command is run in it on the head.

        Args:
            entrypoint: the shell command.
            folder: the local folder that becomes the job's working directory.
            environment: variables for the job and its workers.
        """
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
        """Pass the job's new output to `write` until the job ends or the connection breaks.

        Output that was already passed to `write`, even over an earlier connection, is skipped.
        """

        from aiohttp import ClientError

        async def read() -> None:
            received_chars = 0
            async for text in self._client.tail_job_logs(job):
                # Ray sends the whole output again on each connection: skip the printed part.
                new = text[max(0, self.printed_chars - received_chars) :]
                received_chars += len(text)
                if new:
                    self.printed_chars = max(self.printed_chars, received_chars)
                    write(new)

        # These errors mean that the connection broke. The caller checks whether the job has ended.
        with suppress(RuntimeError, OSError, ValueError, ClientError):
            asyncio.run(read())

    def outcome(self, job: str) -> tuple[str, int | None, str] | None:
        """Query the outcome of a job; None while it runs.

        Returns:
            The status (SUCCEEDED, FAILED or STOPPED), the command's exit code (None if it was never
            started), and Ray's message (may be empty).
        """
        info = _call_ray(lambda: self._client.get_job_info(job))
        status = str(info.status.value)
        if status not in ("SUCCEEDED", "FAILED", "STOPPED"):
            return None
        return status, info.driver_exit_code, str(info.message or "")

    def stop(self, job: str) -> None:
        """Stop the job: Ray sends SIGTERM, and SIGKILL after `STOP_WAIT_S`."""
        _call_ray(lambda: self._client.stop_job(job))


def _call_ray(ask: Callable[[], Any]) -> Any:
    """Call Ray's client, and translate its errors.

    Raises:
        NotReady: the call failed.
    """
    try:
        return ask()
    except (OSError, RuntimeError, ValueError) as error:  # the errors of `requests` are OSErrors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotReady(
            f"a request to the cluster's job server failed ({reason}). "
            "Check the cluster with: python -m cluster.status FILE"
        ) from error
