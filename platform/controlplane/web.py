"""The web process's worker."""

from __future__ import annotations

import json
import socket
import time
import uuid
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

STATUSES = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}


LINGER_S = 1.0  # that a client has to send the rest of what was refused, and to close its side
MAX_UNREAD = 32 * 2**20


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's, whose own refusals, of what is no HTTP request, have the API's one error shape.

    A body that was refused unread is thrown away, and a connection's end awaited, in the thread of the request: closing
    with bytes unread loses the answer, and gunicorn waits for the end in the one thread that accepts connections.
    """

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        deadline = time.monotonic() + LINGER_S
        is_read = conn.parser.finish_body(deadline=deadline, max_bytes=MAX_UNREAD)
        if keepalive and is_read:
            return True
        _await_end(conn.sock, deadline)
        return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer instead of the application, which was not asked."""
        if isinstance(exc, ParseException):
            status = STATUSES.get(type(exc), HTTPStatus.BAD_REQUEST)
            self.log.warning("A request that is no HTTP, from %s: %s", addr[0] if addr else "a socket", exc)
        else:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            self.log.error("A request failed outside the application", exc_info=exc)
        try:
            write_nonblock(client, _response(status))
        except OSError as error:
            self.log.debug("The client has left: %s", error)


def _await_end(client: socket.socket, deadline: float) -> None:
    """Say that nothing more comes, and wait until the client says so, too, or time is up."""
    with suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            client.settimeout(left)
            if not client.recv(2**16):
                break
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _response(status: HTTPStatus) -> bytes:
    code = status.name.lower()
    message = "The request is no HTTP that is read here." if status == HTTPStatus.BAD_REQUEST else f"{status.phrase}."
    body = json.dumps({"error": {"code": code, "message": message, "request_id": str(uuid.uuid4())}})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()
