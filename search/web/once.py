"""Protection against forms that are sent twice, by a double click or a reload: they act once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response

FIELD = "once"
"""Field of a form with a token that is new each time the form is rendered."""
MAX_KEPT = 200


class Once:
    """The responses to the latest forms that changed something, pending or complete."""

    def __init__(self) -> None:
        self._answers: dict[tuple[object, ...], asyncio.Task[Response]] = {}

    async def answer(
        self, path: str, form: FormData, make: Callable[[], Coroutine[Any, Any, Response]]
    ) -> Response:
        """Respond to a form; if the same form was sent before, with the first response.

        A refused form may be sent again, and so may a form with other values.

        Args:
            path: the path that it was sent to.
            form: its fields.
            make: performs the action and makes the response.
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
