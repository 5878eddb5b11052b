"""Access to the pages: for whoever has the token, from a page of this server.

The address that the terminal shows has the token; it is changed for a cookie once, which only this
process knows, so that a later one knows it no more.
"""

import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode

from markupsafe import escape
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from search.serving.pages.guard import allowed_hosts, refusal

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
REFUSED = {**HEADERS, "Connection": "close"}
"""A stranger keeps none of the places that connections have."""
TOKEN = "open"
"""The parameter of an address with the token; `token` would be masked as a secret."""
LEADS = (
    '<!doctype html><html lang="en"><meta http-equiv="refresh" content="0;url={0}">'
    '<title>Searches</title><p><a href="{0}">The searches</a></p></html>'
)
"""The page that leads on where the address with the token was opened from a file, or from a mail:
after a redirect a browser would not send the cookie, which is `SameSite=Strict`, from there."""
ELSEWHERE = (
    "This page was asked for by a page of another server, and answers its own pages alone: open it "
    "by its address."
)
NO_TOKEN = (
    "This page is for whoever has its address: open the one that the terminal shows, with its "
    "token. After a new start of search.ui an old one no longer holds."
)


class Access:
    """The token, the session, and the names by which the server may be called."""

    def __init__(self, host: str, token: str = "") -> None:
        """Make a session.

        Args:
            host: the address at which the server listens.
            token: the one that is wanted; empty makes one.
        """
        self.token = token or secrets.token_urlsafe(24)
        self.hosts = allowed_hosts(host)
        self._session = secrets.token_urlsafe(32)
        self.cookie = f"search-{secrets.token_hex(4)}"
        """The cookie's name: several servers of one host share its cookies."""

    @property
    def csrf(self) -> str:
        """The text that a form has to bring along."""
        return hmac.new(self._session.encode(), b"change", hashlib.sha256).hexdigest()

    def is_csrf(self, given: str) -> bool:
        """Return whether a form has brought it along."""
        return hmac.compare_digest(given.encode(), self.csrf.encode())

    def is_token(self, given: str) -> bool:
        """Return whether this is the token."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def is_known(self, headers: Headers) -> bool:
        """Return whether a request brings the session's cookie."""
        cookies = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        found = cookies.get(self.cookie)
        return found is not None and hmac.compare_digest(
            found.value.encode(), self._session.encode()
        )

    def let_in(self, answer: Response) -> Response:
        """Return an answer that also sets the session's cookie."""
        answer.set_cookie(self.cookie, self._session, httponly=True, samesite="strict")
        return answer


class Guarded:
    """Lets an app answer those who may use it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer; connections of other kinds than HTTP get none."""
        if scope["type"] == "http":
            answer = self._refusal(scope) or self.app
            await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to whoever may not use the app, or has just brought the token."""
        if refused := refusal(scope, self.access.hosts):
            return PlainTextResponse(refused, 403, REFUSED)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get(TOKEN)
        headers = Headers(scope=scope)
        is_own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if given is not None and self.access.is_token(given):
            left = urlencode([(name, value) for name, value in query if name != TOKEN])
            # Never `//host`, which a browser takes for another server.
            path = "/" + quote(scope["path"].lstrip("/"))
            address = path + (f"?{left}" if left else "")
            if is_own:
                return self.access.let_in(RedirectResponse(address, 303, HEADERS))
            return self.access.let_in(HTMLResponse(LEADS.format(escape(address)), 200, HEADERS))
        # Servers on other ports of this host are the same site: their pages' requests bring the
        # cookie along.
        if not is_own:
            return PlainTextResponse(ELSEWHERE, 403, REFUSED)
        if given is None and self.access.is_known(headers):
            return None
        return PlainTextResponse(NO_TOKEN, 401, REFUSED)
