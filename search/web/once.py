"""Protection against forms that are sent twice, by a double click or a reload.

The action of such a form is performed only once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response

FIELD = "once"
"""Name of the form field with a random token, which differs each time the form is rendered."""
MAX_KEPT = 200
"""Maximum number of responses that are stored; the oldest are removed."""


class Once:
    """The pending and complete responses to recent forms that changed something."""

    def __init__(self) -> None:
        self._answers: dict[tuple[object, ...], asyncio.Task[Response]] = {}

    async def answer(
        self, path: str, form: FormData, make: Callable[[], Coroutine[Any, Any, Response]]
    ) -> Response:
        """Perform the action of a form, and return the response.

        If the same form was sent before, return the first response instead. A form that was refused
        may be sent again, and so may a form with other values.

        Args:
            path: the URL path to which the form was sent.
            form: the fields of the form.
            make: performs the action and returns the response.
        """
        if not form.get(FIELD):
            return await make()
        key = (path, *((name, value) for name, value in form.multi_items()))
        task = self._answers.get(key)
        if task is None:
            task = self._answers[key] = asyncio.create_task(make())
            if len(self._answers) > MAX_KEPT:
                del self._answers[next(iter(self._answers))]
        try:
            answer = await asyncio.shield(task)
        except Exception:
            self._answers.pop(key, None)
            raise
        if answer.status_code >= 400:
            self._answers.pop(key, None)
        return answer
