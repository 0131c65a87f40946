"""The OpenAI protocol on the engine's server, as vLLM speaks it with LoRA: every loaded adapter is a model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Any

from aiohttp import web

from adapters.stack_spec import AdapterRef
from datasets_app.errors import InputError
from inference.engines import wire
from inference.engines.base import EngineError, StackNotDeployed
from inference.engines.chat import OWNER, Completion, adapter_named
from inference.engines.types import Receipt, TextDelta
from inference.server.choices import logprobs
from inference.server.host import ChatEngine, Host
from inference.server.openai_bodies import ChatBody, LoadBody, UnloadBody, read

logger = logging.getLogger(__name__)

PREFIX = "/v1/"
COMPLETIONS = f"{PREFIX}chat/completions"
NOT_FOUND = "model_not_found"


def routes(host: Host) -> list[web.RouteDef]:
    """The routes below `PREFIX`."""
    api = _Api(host)
    return [
        web.get("/v1/models", api.models),
        web.post(COMPLETIONS, api.complete),
        web.post("/v1/load_lora_adapter", api.load),
        web.post("/v1/unload_lora_adapter", api.unload),
    ]


def describe(error: Exception) -> tuple[int, str, str]:
    """HTTP status, code and message of a failure, with the codes that OpenAI's clients know."""
    status, code, message = wire.describe(error)
    if isinstance(error, StackNotDeployed):
        return 404, NOT_FOUND, message
    return 400 if isinstance(error, InputError) else status, code, message


def error_body(status: int, code: str, message: str) -> bytes:
    """OpenAI's shape of failures."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


class _Api:
    def __init__(self, host: Host) -> None:
        self._host = host

    async def models(self, request: web.Request) -> web.Response:
        engine = self._host.chats
        base = {"id": engine.base, "object": "model", "created": 0, "owned_by": OWNER}
        loaded = [base | {"id": model, "root": model, "parent": engine.base} for model in engine.models]
        own = base | {"root": engine.base, "parent": None, "max_adapters": engine.max_models}
        return web.json_response({"object": "list", "data": [own, *loaded]})

    async def load(self, request: web.Request) -> web.Response:
        engine = self._host.chats
        body = read(LoadBody, await request.read())
        adapter = _stored(engine, body)
        if body.lora_name in engine.models:
            raise InputError(f"The lora adapter '{body.lora_name}' has already been loaded.")
        await self._host.load(lambda: engine.load_model(adapter))
        return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def unload(self, request: web.Request) -> web.Response:
        engine = self._host.chats
        body = read(UnloadBody, await request.read())
        if not engine.unload_model(body.lora_name):
            raise StackNotDeployed(f"The lora adapter '{body.lora_name[:200]}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    async def complete(self, request: web.Request) -> web.StreamResponse:
        engine, data = self._host.chats, await request.read()
        body = await asyncio.to_thread(read, ChatBody, data)
        body.check()
        if body.model not in engine.models:
            raise StackNotDeployed(f"The model `{body.model[:200]}` does not exist.")
        if body.choices is not None:
            return await self._choose(engine, body, body.choices)
        if body.stream:
            return await self._stream(request, engine, body)
        done = await self._host.call(lambda: engine.submit_completion(body.chat()))
        return _answer(body.model, done.text, _reason(done), None, _usage(done), done.receipt)

    async def _choose(self, engine: ChatEngine, body: ChatBody, choices: list[str]) -> web.Response:
        spelled = await asyncio.to_thread(engine.spell, choices)
        decision = await self._host.call(lambda: engine.submit_choice(body.chat(), choices))
        content = None
        if body.logprobs:
            told = logprobs(decision.probabilities, spelled, decision.label, body.top_logprobs or 0)
            content = {"content": told}
        return _answer(body.model, decision.label, "stop", content, None, decision.receipt)

    async def _stream(self, request: web.Request, engine: ChatEngine, body: ChatBody) -> web.StreamResponse:
        """Server-sent events. What fails before the first is an ordinary refusal, what fails later an event."""
        events = self._host.stream(lambda tell: engine.submit_completion(body.chat(), tell))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        async with contextlib.aclosing(events):
            event = await anext(events)
            await response.prepare(request)
            chunks = _Chunks(body)
            await response.write(chunks.delta({"role": "assistant", "content": ""}))
            try:
                await _tell(response, chunks, event, events)
            except Exception as error:
                if not isinstance(error, InputError | EngineError):
                    logger.exception("A stream failed")
                status, code, message = describe(error)
                await response.write(b"data: " + error_body(status, code, message) + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


async def _tell(response: web.StreamResponse, chunks: _Chunks, event: Any, events: AsyncGenerator[Any]) -> None:
    while not isinstance(event, Completion):
        if isinstance(event, TextDelta):
            await response.write(chunks.delta({"content": event.text}))
        event = await anext(events)
    await response.write(chunks.end(event))
    if chunks.counts:
        await response.write(chunks.usage(event))


class _Chunks:
    """The chunks of one streamed answer."""

    def __init__(self, body: ChatBody) -> None:
        self.counts = bool(body.stream_options and body.stream_options.include_usage)
        self._head = _head("chat.completion.chunk", body.model)

    def delta(self, delta: dict[str, str]) -> bytes:
        """Some text."""
        return self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])

    def end(self, done: Completion) -> bytes:
        """Why there is no more, and the receipt."""
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": _reason(done)}
        return self._chunk([choice], receipt=_receipt(done.receipt))

    def usage(self, done: Completion) -> bytes:
        """How many tokens it was."""
        return self._chunk([], usage=_usage(done))

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return f"data: {json.dumps(self._head | {'choices': choices} | more)}\n\n".encode()


def _stored(engine: ChatEngine, body: LoadBody) -> AdapterRef:
    """The adapter that is meant. Its path is compared with where the store keeps it, and never opened."""
    adapter = adapter_named(body.lora_name)
    folder = engine.folder(adapter.digest)
    if body.lora_path not in (adapter.digest, str(folder.absolute()), str(folder.resolve())):
        raise InputError(
            "Field 'lora_path': give the folder in the store, or the digest, of the adapter in 'lora_name'."
        )
    return adapter


def _answer(
    model: str,
    text: str,
    finish_reason: str,
    logprobs: dict[str, Any] | None,
    usage: dict[str, int] | None,
    receipt: Receipt | None,
) -> web.Response:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}
    told = {"choices": [choice], "usage": usage, "receipt": _receipt(receipt)}
    return web.json_response(_head("chat.completion", model) | told)


def _receipt(receipt: Receipt | None) -> dict[str, Any] | None:
    """In a field of our own, which the protocol's clients pass over."""
    return asdict(receipt) if receipt else None


def _reason(done: Completion) -> str:
    """In the protocol's words, which have none for a deadline."""
    return "length" if done.finish_reason == "deadline" else done.finish_reason


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _usage(done: Completion) -> dict[str, int]:
    """As vLLM counts: an end token that was generated is one of the answer's."""
    own = done.tokens + (done.finish_reason == "stop")
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": own,
        "total_tokens": done.prompt_tokens + own,
    }
