"""Forms that are sent twice, by a double click or a page that is loaded anew: they act once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response

FIELD = "once"
"""The field of a form by which one that was shown is known: each showing has its own."""
MAX_KEPT = 200


class Once:
    """The answers to the last forms that did something, while they are made and after that."""

    def __init__(self) -> None:
        self._answers: dict[tuple[object, ...], asyncio.Task[Response]] = {}

    async def answer(
        self, path: str, form: FormData, make: Callable[[], Coroutine[Any, Any, Response]]
    ) -> Response:
        """Return the answer to a form: a new one, or the one that it had when it was sent before.

        What was refused may be sent again, and so may a form that was filled in differently.

        Args:
            path: where it was sent to.
            form: its fields.
            make: acts, and makes the answer.
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
