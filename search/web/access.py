"""Access control of the pages: a token is required, and requests of other sites are refused.

The URL that the terminal shows contains the token. The response to a request with the token sets a
session cookie. Each server process has its own session, so the cookies of earlier processes are not
valid.
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
"""Headers of a refusal. The connection is closed, so that unauthorised clients cannot occupy it."""
TOKEN = "open"
"""Name of the URL parameter with the token. If it were `token`, its value would be masked in the
output (`cluster.secrets`).
"""
LEADS = (
    '<!doctype html><html lang="en"><meta http-equiv="refresh" content="0;url={0}">'
    '<title>Searches</title><p><a href="{0}">The searches</a></p></html>'
)
"""Page that forwards the browser if the URL with the token was opened from a file, an e-mail or
another site. An HTTP redirect would not work in these cases, since the browser would then not send
the `SameSite=Strict` cookie.
"""
ELSEWHERE = "Cross-site request refused: open this page by its own address."
NO_TOKEN = (
    "This page needs the token in its address: open the address that the terminal shows. After a "
    "restart of search.ui, an old address is no longer valid."
)


class Access:
    """The token, the session, and the host names by which the server may be addressed."""

    def __init__(self, host: str, token: str = "") -> None:
        """Create a session.

        Args:
            host: the address at which the server listens.
            token: the token that the first request must contain; if empty, a new one is created.
        """
        self.token = token or secrets.token_urlsafe(24)
        self.hosts = allowed_hosts(host)
        self._session = secrets.token_urlsafe(32)
        self.cookie = f"search-{secrets.token_hex(4)}"
        """Name of the session cookie. It is random, because all servers on a host share the cookies
        that a browser stores for this host.
        """

    @property
    def csrf(self) -> str:
        """The CSRF token that every form must contain."""
        return hmac.new(self._session.encode(), b"change", hashlib.sha256).hexdigest()

    def is_csrf(self, text: str) -> bool:
        """True if this is the CSRF token of the session."""
        return hmac.compare_digest(text.encode(), self.csrf.encode())

    def is_token(self, text: str) -> bool:
        """True if this is the token of the URL on the terminal."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_known(self, headers: Headers) -> bool:
        """True if the headers of a request include the session's cookie."""
        cookies = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(self.cookie)
        return cookie is not None and hmac.compare_digest(
            cookie.value.encode(), self._session.encode()
        )

    def let_in(self, answer: Response) -> Response:
        """Add the session's cookie to a response, and return the response."""
        answer.set_cookie(self.cookie, self._session, httponly=True, samesite="strict")
        return answer


class Guarded:
    """Middleware that passes only authorised requests to an app."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request to the app, or refuse it; ignore other kinds of connections."""
        if scope["type"] == "http":
            answer = self._refusal(scope) or self.app
            await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Build the response to an unauthorised request, or to one that contains the token.

        The result is None if the app should answer the request.
        """
        if refused := refusal(scope, self.access.hosts):
            return PlainTextResponse(refused, 403, REFUSED)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = dict(query).get(TOKEN)
        headers = Headers(scope=scope)
        is_own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if token is not None and self.access.is_token(token):
            remaining_query = urlencode([(name, value) for name, value in query if name != TOKEN])
            # A path that begins with `//host` would redirect the browser to another server.
            path = "/" + quote(scope["path"].lstrip("/"))
            address = path + (f"?{remaining_query}" if remaining_query else "")
            if is_own:
                return self.access.let_in(RedirectResponse(address, 303, HEADERS))
            return self.access.let_in(HTMLResponse(LEADS.format(escape(address)), 200, HEADERS))
        # For browsers, servers on other ports of this host are the same site, so requests from
        # their pages contain the cookie. Those are refused here.
        if not is_own:
            return PlainTextResponse(ELSEWHERE, 403, REFUSED)
        if token is None and self.access.is_known(headers):
            return None
        return PlainTextResponse(NO_TOKEN, 401, REFUSED)
