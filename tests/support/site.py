"""The web pages' app without a port, as somebody sees it who has the token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

from starlette.applications import Starlette

from search.journal.store import Storage
from search.web.access import Access
from search.web.app import app_of
from search.web.pages.registry import PAGES
from search.web.site import Site
from tests.support.asgi import Reply, ask

FORM = "application/x-www-form-urlencoded"


@dataclass
class Visitor:
    """Somebody who has opened the address with the token."""

    folder: Path
    """Where searches and MLflow's database lie."""
    data_root: Path | None = None
    place: Storage | None = None
    """Where searches are kept, if not in `searches` there."""
    site: Site = field(init=False)
    app: Starlette = field(init=False)

    def __post_init__(self) -> None:
        tracking = f"sqlite:///{self.folder}/mlflow.db"
        access = Access("127.0.0.1", "t" * 20)
        place = self.place or self.folder / "searches"
        self.site = Site(place, tracking, access, PAGES, self.data_root)
        self.app = app_of(self.site)
        opened = ask(self.app, "GET", f"/?open={'t' * 20}")
        self.cookie = opened.headers["set-cookie"].partition(";")[0]

    def see(self, path: str, *, part: bool = False, **given: str) -> Reply:
        """Return a page, or with `part` what htmx gets."""
        query = f"?{urlencode(given)}" if given else ""
        headers = {"cookie": self.cookie, **({"hx-request": "true"} if part else {})}
        return ask(self.app, "GET", f"{path}{query}", headers=headers)

    def send(self, path: str, fields: Mapping[str, str], *, csrf: str | None = None) -> Reply:
        """Return the answer to a form, sent with the session's CSRF token unless one is named."""
        token = self.site.access.csrf if csrf is None else csrf
        body = urlencode({"csrf": token, **fields}).encode()
        return ask(self.app, "POST", path, body, {"cookie": self.cookie, "content-type": FORM})

    def upload(self, path: str, name: str, content: bytes, fields: Mapping[str, str]) -> Reply:
        """Return the answer to a form with a file of this name in the field `image`."""
        border = uuid4().hex
        parts = {"csrf": self.site.access.csrf, **fields}
        begin = f"--{border}\r\nContent-Disposition: form-data; "
        body = b"".join(
            f'{begin}name="{key}"\r\n\r\n{value}\r\n'.encode() for key, value in parts.items()
        )
        head = f'{begin}name="image"; filename="{name}"\r\n'
        body += head.encode() + b"Content-Type: image/png\r\n\r\n" + content
        body += f"\r\n--{border}--\r\n".encode()
        kind = f"multipart/form-data; boundary={border}"
        return ask(self.app, "POST", path, body, {"cookie": self.cookie, "content-type": kind})
