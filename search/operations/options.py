"""Options that many requests have: the search, its storage, an address, a seed."""

from dataclasses import dataclass

from cluster.cli import is_whole, port
from search.journal.naming import resolve_name
from search.journal.store import Home, Storage, home, storage
from search.values.option import option, positional
from search.values.wording import DEFAULT_STORAGE
from trainables.errors import ConfigError

MAX_SEED = 2**31
"""The maximum seed, as for the field `seed` of `trainables.config.TrialConfig`."""


def storage_option() -> Storage:
    """Declare `--storage`, the place where searches are stored."""
    place: Storage = option(
        "where searches are kept: a folder, or s3://BUCKET/PREFIX",
        metavar="PLACE",
        parse=storage,
        default=DEFAULT_STORAGE,
    )
    return place


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """A request that names an existing search."""

    name: str = positional("the search's name", metavar="NAME")
    storage: Storage = storage_option()

    def home(self) -> Home:
        """Find the place of the search in its storage.

        Raises:
            NoSuchSearch: there is no search with this name.
        """
        return home(self.storage, resolve_name(self.name, self.storage))


@dataclass(frozen=True, kw_only=True)
class Listening:
    """The address at which a page or a server listens."""

    host: str = option("address to listen on", metavar="ADDRESS", default="127.0.0.1")
    port: int = option(
        "port to listen on; 0 chooses a free one", metavar="N", parse=port, default=0
    )


def seed(text: str) -> int:
    """Parse a seed; used as the `parse` function of options.

    Raises:
        ConfigError: the text is not a whole number from 0 to `MAX_SEED`.
    """
    if not is_whole(text) or int(text) > MAX_SEED:
        raise ConfigError(f"expected a whole number from 0 to {MAX_SEED} (got '{text[:80]}')")
    return int(text)
