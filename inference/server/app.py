"""The HTTP side of the engine process."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from datasets_app.errors import InputError
from inference.engines import wire
from inference.engines.base import EngineBusy, EngineError, retry_after
from inference.server import openai
from inference.server.host import Host

logger = logging.getLogger(__name__)

GRACE_S = 30.0  # beyond the engine's own deadline, within which it answers whoever sends and reads at all
HOST = web.AppKey("host", Host)
ASKING = ("/route", "/infer", "/stream", openai.COMPLETIONS)


def build_app(host: Host, token: str) -> web.Application:
    """The application around `host`; every path but /health needs `Authorization: Bearer <token>`."""
    app = web.Application(
        client_max_size=wire.MAX_BODY_BYTES,
        middlewares=[_one_error_shape, _authenticated(token), _bounded(host)],
        handler_args={"auto_decompress": False},  # A megabyte may be a gigabyte, which would hold everybody up.
    )
    app[HOST] = host
    app.cleanup_ctx.append(_lifetime)
    app.add_routes(
        [
            web.get("/health", _health),
            web.get("/status", _status),
            web.post("/deploy", _deploy),
            web.post("/route", _route),
            web.post("/infer", _infer),
            web.post("/stream", _stream),
            *openai.routes(host),
        ]
    )
    return app


async def _lifetime(app: web.Application) -> AsyncIterator[None]:
    app[HOST].start()
    yield
    await asyncio.to_thread(app[HOST].close)


async def _health(request: web.Request) -> web.Response:
    state = request.app[HOST].state
    return web.json_response({"status": state}, status=200 if state == "ok" else 503)


async def _status(request: web.Request) -> web.Response:
    return web.json_response(await request.app[HOST].status())


async def _deploy(request: web.Request) -> web.Response:
    host = request.app[HOST]
    engine, body = host.engine, await request.read()
    stack = wire.load_stack(body)
    await host.load(lambda: engine.deploy(stack))
    return web.json_response({"stack": stack.digest})


async def _route(request: web.Request) -> web.Response:
    host = request.app[HOST]
    engine, body = host.engine, await request.read()
    decision = await host.call(lambda: engine.submit_route(wire.load_request(body)))
    return _json(wire.dump_decision(decision))


async def _infer(request: web.Request) -> web.Response:
    host = request.app[HOST]
    engine, body = host.engine, await request.read()
    result = await host.call(lambda: engine.submit_infer(wire.load_request(body)))
    return _json(wire.dump_result(result))


async def _stream(request: web.Request) -> web.StreamResponse:
    """A line of JSON an event. What fails before the first is an ordinary refusal, what fails later the last line."""
    host = request.app[HOST]
    engine, body = host.engine, await request.read()
    events = host.stream(lambda tell: engine.submit_stream(wire.load_request(body), tell))
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    async with contextlib.aclosing(events):
        event = await anext(events)
        await response.prepare(request)
        await response.write(wire.dump_event(event))
        try:
            async for event in events:
                await response.write(wire.dump_event(event))
        except (InputError, EngineError) as error:
            await response.write(wire.dump_event(error))
        except Exception as error:
            logger.exception("A stream failed")
            await response.write(wire.dump_event(error))
    await response.write_eof()
    return response


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _authenticated(token: str) -> Middleware:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if request.path != "/health" and not hmac.compare_digest(given, expected):
            return _refusal(request, 401, "unauthorized", "Give the engine's token as a bearer token.")
        return await handler(request)

    return middleware


def _bounded(host: Host) -> Middleware:
    """Refuse at once, before its body is read, what the engine has no place for; cut off who keeps one too long."""
    asking = 0

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal asking
        if request.path not in ASKING:
            return await handler(request)
        if asking >= host.engine.places:
            raise EngineBusy("The engine has no place left: try again later.")
        asking += 1
        try:
            async with asyncio.timeout(host.engine.deadline_s + GRACE_S):
                return await handler(request)
        except TimeoutError:
            logger.warning("Cut off: a request to %s was sent, or its answer read, too slowly", request.path)
            if request.transport:
                request.transport.abort()
            raise EngineBusy("The request was sent, or its answer read, too slowly.") from None
        finally:
            asking -= 1

    return middleware


@web.middleware
async def _one_error_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One shape for our own routes, OpenAI's for its."""
    try:
        if "Content-Encoding" in request.headers:
            raise InputError("Send the body as it is: no Content-Encoding is accepted.")
        return await handler(request)
    except web.HTTPException as error:
        code = (error.reason or "error").lower().replace(" ", "_")
        return _refusal(request, error.status, code, f"{error.reason}.")
    except Exception as error:
        if not isinstance(error, InputError | EngineError):
            logger.exception("A request failed")
        return _refusal(request, *(openai if _speaks_openai(request) else wire).describe(error))


def _refusal(request: web.Request, status: int, code: str, message: str) -> web.Response:
    is_openai = _speaks_openai(request)
    body = openai.error_body(status, code, message) if is_openai else wire.error_body(code, message)
    return _json(body, status, {"Retry-After": retry_after()} if status == 503 else None)


def _speaks_openai(request: web.Request) -> bool:
    return request.path.startswith(openai.PREFIX)
