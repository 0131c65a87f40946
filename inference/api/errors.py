"""Every refusal under /api/ is one JSON shape: `{"error": {"code", "message", "request_id"}}`."""

from __future__ import annotations

import logging
import math
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.csrf import csrf_failure as default_csrf_failure
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from datasets_app.errors import InputError
from datasets_app.formats.pictures import UnsupportedImage
from datasets_app.room import FULL, is_disk_full
from datasets_app.text import without_places
from inference.admission import TooManyPlacesError
from inference.engines.base import EngineBusy, EngineError, retry_after

API_PREFIX = "/api/"
UNAVAILABLE_RETRY_SECONDS = 10.0
MAX_PROBLEMS = 5  # fields named in one message


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, dict[str, str]]:
        """The one error shape."""
        return {"error": {"code": self.code, "message": self.message, "request_id": _request_id()}}

    def response(self) -> JsonResponse:
        """For the places that Django REST framework does not reach."""
        return JsonResponse(self.body(), status=self.status, headers=self.headers)

    def page(self) -> HttpResponse:
        """For people."""
        return HttpResponse(self.message, status=self.status, content_type="text/plain", headers=self.headers)


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn what a view raised into a refusal; None, hence HTTP 500, for what is a bug of ours."""
    refusal = refusal_of(error)
    if refusal is None:
        return None
    set_rollback()
    return Response(refusal.body(), status=refusal.status, headers=refusal.headers)


def refusal_of(error: Exception) -> Refusal | None:
    """The refusal that `error` stands for, if it stands for one."""
    match error:
        case UnsupportedImage():
            return Refusal(415, "unsupported_media_type", str(error))
        case InputError():
            return Refusal(400, "invalid_input", str(error))
        case TooManyPlacesError():
            return Refusal(429, "throttled", str(error), {"Retry-After": retry_after()})
        case EngineBusy():
            wait = retry_after(error.retry_after) if error.retry_after else retry_after()
            return Refusal(503, "engine_busy", str(error), {"Retry-After": wait})
        case EngineError():
            logger.warning("The engine did not answer: %s", error)
            wait = retry_after(UNAVAILABLE_RETRY_SECONDS)
            return Refusal(503, "engine_unavailable", without_places(str(error)), {"Retry-After": wait})
        case Http404():
            return Refusal(404, "not_found", "There is no such resource.")
        case PermissionDenied():
            return Refusal(403, "permission_denied", "You may not do this.")
        case RequestDataTooBig():
            return TOO_LARGE
        case SuspiciousOperation():
            return Refusal(400, "bad_request", "The request is malformed.")
        case exceptions.APIException():
            return _of_api_exception(error)
    return Refusal(507, "disk_full", FULL) if is_disk_full(error) else None


def _of_api_exception(error: exceptions.APIException) -> Refusal:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(math.ceil(wait))
    if isinstance(error, exceptions.ValidationError):
        problems = list(_problems(error.detail))
        rest = len(problems) - MAX_PROBLEMS
        message = " ".join(problems[:MAX_PROBLEMS]) + (f" And {rest} more." if rest > 0 else "")
        return Refusal(error.status_code, "invalid_input", message)
    message = str(error.detail)
    if isinstance(error, exceptions.NotAuthenticated) and challenge:
        message = f"Send a header, 'Authorization: {challenge.partition(' ')[0]} …': there are no credentials."
    return Refusal(error.status_code, str(error.get_codes()), message, headers)


def _problems(detail: Any, path: str = "") -> Iterator[str]:
    """One sentence for every problem in a serializer's nested errors."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            own = "" if key == "non_field_errors" else str(key)
            yield from _problems(value, ".".join(part for part in (path, own) if part))
    elif isinstance(detail, list):
        for value in detail:
            yield from _problems(value, path)
    else:
        yield f"{path}: {detail}" if path else str(detail)


def _request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id") or uuid.uuid4())


TOO_LARGE = Refusal(413, "payload_too_large", "The request body is too large.")
SERVER_ERROR = Refusal(500, "server_error", "Something went wrong on our side.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`handler400`."""
    if request.path.startswith(API_PREFIX):
        return Refusal(400, "bad_request", "The request is malformed.").response()
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`handler403`."""
    if request.path.startswith(API_PREFIX):
        return Refusal(403, "permission_denied", "You may not do this.").response()
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`handler404`."""
    if request.path.startswith(API_PREFIX):
        return Refusal(404, "not_found", "There is no such resource.").response()
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """`handler500`: also for what is no bug, such as a full disk, but was raised where nothing else tells."""
    error = sys.exc_info()[1]
    refusal = refusal_of(error) if isinstance(error, Exception) else None
    if request.path.startswith(API_PREFIX):
        return (refusal or SERVER_ERROR).response()
    return refusal.page() if refusal else defaults.server_error(request)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """`CSRF_FAILURE_VIEW`."""
    if request.path.startswith(API_PREFIX):
        return Refusal(403, "csrf_failed", "The CSRF token is missing or wrong.").response()
    return default_csrf_failure(request, reason)


def locked_out(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any]) -> HttpResponse:
    """`AXES_LOCKOUT_CALLABLE`: too many wrong passwords."""
    from axes.helpers import get_cool_off

    wait = get_cool_off(request)
    headers = {"Retry-After": str(int(wait.total_seconds()))} if wait else {}
    refusal = Refusal(429, "throttled", "Too many failed log-ins: try again later.", headers)
    return refusal.response() if request.path.startswith(API_PREFIX) else refusal.page()
