"""Replace private functions of Ray inside a context, if they have the expected parameters.

Private functions may change in any release of Ray. A `Patch` therefore states the parameters that
it expects, which are checked before the function is replaced.
"""

import inspect
import logging
import pkgutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from cluster.errors import NotReady
from cluster.versions import TRIED_VERSIONS

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patch:
    """A replacement of one private function, with its condition and its gain."""

    target: str
    """The function, as `module:function` or `module:Class.function`."""
    parameters: tuple[str, ...]
    """The expected names of the function's parameters. If they differ, the patch does not fit."""
    wrap: Callable[..., Callable[..., Any]]
    """Builds the replacement from the original and the `arguments` of `apply_patches`."""
    gain: str
    """The measured gain, or the name of a test that fails without the patch."""
    is_needed: bool = False
    """True if no search works without the patch. Other patches are skipped if they do not fit."""

    @property
    def owner_and_name(self) -> tuple[Any, str]:
        """The module or class that contains the function, and the function's name in it."""
        module, _, path = self.target.partition(":")
        owner, _, name = path.rpartition(".")
        return pkgutil.resolve_name(f"{module}:{owner}"), name

    def misfit(self) -> str:
        """The reason why the function cannot be replaced; empty if it can."""
        try:
            signature = inspect.signature(pkgutil.resolve_name(self.target))
        except (ImportError, AttributeError):
            return f"Ray has no {self.target}"
        except (TypeError, ValueError):
            return f"Ray's {self.target} has no signature"
        if tuple(signature.parameters) == self.parameters:
            return ""
        return f"Ray's {self.target} has unexpected parameters ({', '.join(signature.parameters)})"


def check_patches(patches: Collection[Patch]) -> None:
    """Check that all patches with `is_needed` fit.

    Raises:
        NotReady: one of them does not fit.
    """
    for patch in patches:
        if patch.is_needed and (reason := patch.misfit()):
            tried = TRIED_VERSIONS["ray"]
            raise NotReady(
                f"{reason}, so a patch that every search needs cannot be applied. "
                f"Install a tested version of Ray ({tried}): pip install 'ray{tried.bounds}'."
            )


@contextmanager
def apply_patches(patches: Collection[Patch], *arguments: Any) -> Iterator[None]:
    """Replace functions of Ray inside this context.

    A patch that does not fit is skipped with a warning in the log, unless it is needed.

    Args:
        patches: the replacements, applied in this order.
        *arguments: passed to the `wrap` of each patch, after the original function.

    Raises:
        NotReady: a needed patch does not fit.
    """
    from unittest import mock

    check_patches(patches)
    with ExitStack() as stack:
        for patch in patches:
            if reason := patch.misfit():
                _log_skipped(reason, patch.gain)
                continue
            owner, name = patch.owner_and_name
            replacement = patch.wrap(getattr(owner, name), *arguments)
            stack.enter_context(mock.patch.object(owner, name, replacement))
        yield


@cache
def _log_skipped(reason: str, gain: str) -> None:
    """Log why a patch is skipped, once in each process."""
    LOG.warning("%s, so it is not patched. The purpose of the patch: %s", reason, gain)
