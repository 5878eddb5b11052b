"""A machine's metadata service as AWS has it, version 2.

It answers only clients that have asked for a token first.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Machine:
    """The service's answers, by path; the next `failures` requests are answered with 503."""

    def __init__(self, instance: str) -> None:
        self.answers = {"/latest/meta-data/instance-id": instance}
        self.failures = 0
        self.url = ""
        self.tokens: set[str] = set()

    def tell(self, notice: str) -> None:
        self.answers["/latest/meta-data/spot/instance-action"] = notice


@contextmanager
def metadata_service(instance: str) -> Iterator[Machine]:
    machine = Machine(instance)

    class Handler(BaseHTTPRequestHandler):
        def reply(self, code: int, text: str = "") -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_PUT(self) -> None:
            if machine.failures:
                machine.failures -= 1
                return self.reply(503)
            if (
                self.path != "/latest/api/token"
                or not self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
            ):
                return self.reply(400)
            machine.tokens.add(token := secrets.token_hex())
            return self.reply(200, token)

        def do_GET(self) -> None:
            if self.headers["X-aws-ec2-metadata-token"] not in machine.tokens:
                return self.reply(401)
            return (
                self.reply(200, machine.answers[self.path])
                if self.path in machine.answers
                else self.reply(404)
            )

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    machine.url = f"http://127.0.0.1:{server.server_port}"
    serving = Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        yield machine
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
