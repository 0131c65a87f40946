"""The web process's worker."""

from __future__ import annotations

import json
import socket
import uuid
from http import HTTPStatus
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

STATUSES = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's, whose own refusals, of what is no HTTP request, have the API's one error shape."""

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


def _response(status: HTTPStatus) -> bytes:
    code = status.name.lower()
    message = "The request is no HTTP that is read here." if status == HTTPStatus.BAD_REQUEST else f"{status.phrase}."
    body = json.dumps({"error": {"code": code, "message": message, "request_id": str(uuid.uuid4())}})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()
