"""The engine behind an OpenAI server."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from adapters.canaries import Canaries
from adapters.card import AdapterCard
from adapters.store import Store
from datasets_app.errors import InputError
from inference.engines.base import EngineError, LoadError, StackNotDeployed
from inference.engines.canaries import WORDS, screens
from inference.engines.chat import OWNER, model_name
from inference.engines.checks import check_kind, check_labels, check_request, check_stack
from inference.engines.http.labels import Step, label_probabilities
from inference.engines.http.messages import body, data_url
from inference.engines.http.proof import prove
from inference.engines.http.server import Failed, Late, OpenAIServer
from inference.engines.packages import versions
from inference.engines.types import (
    AdapterRef,
    Decision,
    Receipt,
    Request,
    StackedResult,
    StackSpec,
    StreamEvent,
    TextDelta,
    Used,
    content_digest,
)
from inference.routing.scoring import best
from inference.routing.tool_call import parse_tool_call

logger = logging.getLogger(__name__)

DEADLINE_S = 60.0
TOP = 20  # as many alternatives to a token as OpenAI's protocol allows, and vLLM by default
STACKS = 32
PACKAGES = versions(("switchyard",))


@dataclass(frozen=True)
class _Role:
    ref: AdapterRef
    card: AdapterCard
    canaries: Canaries | None


@dataclass(frozen=True)
class _Held:
    """What the server serves: its base, under these names, and adapters.

    `is_ours`: it knows their cards; and how many it serves at most, which others do not say.
    """

    bases: list[str]
    adapters: set[str]
    is_ours: bool
    capacity: float = math.inf


@dataclass(frozen=True)
class _Deployed:
    spec: StackSpec
    router: _Role
    experts: dict[str, _Role]


class HttpEngine:
    """Implements `inference.engines.base.Engine` against the OpenAI server at `url`, vLLM's or our own.

    `store` is the folder of the adapter store, `server_store` the same folder as the server names it. Each adapter
    version is a model of its own, `name@sha256:…`. Safe to call from any thread.
    """

    def __init__(
        self, url: str, token: str, store: str, server_store: str = "", deadline_s: float = DEADLINE_S
    ) -> None:
        if not url:
            raise EngineError("The engine 'http' needs the URL of its server.")
        self._server = OpenAIServer(url, token)
        self._store = Store(Path(store))
        self._server_store = server_store or str(Path(store).absolute())
        self._deadline_s = deadline_s
        self._lock = Lock()
        self._deploying = Lock()  # Many find at once that a server has forgotten its adapters; one has them loaded.
        self._stacks: dict[str, _Deployed] = {}  # the one deployed longest ago first
        self._read: dict[str, tuple[AdapterCard, Canaries | None]] = {}
        self._proven: set[str] = set()  # models of a server that proves none itself

    def deploy(self, stack: StackSpec) -> None:
        """Have the server load every adapter of the stack that it does not hold, and prove all of them; idempotent."""
        with self._deploying:
            self._deploy(stack)

    def _deploy(self, stack: StackSpec) -> None:
        held = self._held()
        check_stack(stack, held.bases)
        router = self._role(stack.router, "router", stack.base)
        experts = {expert.name: self._role(expert, "expert", stack.base) for expert in stack.experts}
        check_labels(stack, router.card)
        if not held.is_ours:
            _check_plain([router, *experts.values()])
        roles = {role.ref: role for role in (router, *experts.values())}
        if len(roles) > held.capacity:
            raise InputError(f"The stack has {len(roles)} adapters; its server serves at most {held.capacity} at once.")
        deployed, is_known = _Deployed(stack, router, experts), stack.digest in self._stacks
        for ref, role in roles.items():
            model = model_name(ref)
            is_new = model not in held.adapters
            if is_new:
                self._proven.discard(model)
                self._load(ref)
            if not held.is_ours and model not in self._proven:
                self._prove(role, stack.base, is_new)
                self._proven.add(model)
                is_known = False
        if not held.is_ours and not is_known:  # It may not know how an answer is limited to labels.
            with _answered():
                self._decide(_Asking(deployed, Request(stack.digest, screens()[0], WORDS), self._deadline_s))
        with self._lock:
            self._stacks.pop(stack.digest, None)
            self._stacks[stack.digest] = deployed
            while len(self._stacks) > STACKS:
                del self._stacks[next(iter(self._stacks))]

    def route(self, request: Request) -> Decision:
        """Decide which expert should answer."""
        return self._decide(_Asking(self._acquire(request), request, self._deadline_s))

    def infer(self, request: Request) -> StackedResult:
        """Route, then generate with the chosen expert."""
        asking = _Asking(self._acquire(request), request, self._deadline_s)
        decision = self._decide(asking)
        if decision.adapter is None:
            return asking.nothing(decision)
        *_, result = self._answer(asking, decision)
        assert isinstance(result, StackedResult)  # noqa: S101 - the last of all events
        return result

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """`infer` as it happens. Closing the iterator ends the request at the server."""
        asking = _Asking(self._acquire(request), request, self._deadline_s)
        decision = self._decide(asking)
        yield decision
        if decision.adapter is None:
            yield asking.nothing(decision)
            return
        try:
            yield from self._answer(asking, decision)
        except StackNotDeployed:  # Nobody can ask again from the start: the decision has been told.
            self._deploy_again(asking.deployed.spec)
            yield from self._answer(asking, decision)

    def _deploy_again(self, stack: StackSpec) -> None:
        try:
            self.deploy(stack)
        except InputError as error:  # no fault of whoever asks
            raise EngineError(f"The stack cannot be deployed again: {error}") from error
        except LoadError as error:
            logger.error("The stack %s cannot be deployed again: %s", stack.digest, error)
            raise EngineError("The stack cannot be deployed again; the log says why.") from error

    def status(self) -> dict[str, object]:
        """The base's fingerprint, the server, what is deployed, and the adapters that the server holds."""
        held = self._held()
        with self._lock:
            stacks = list(self._stacks)
        return {
            "base": next((base for base in held.bases if base.startswith("sha256:")), None),
            "server": self._server.url,
            "stacks": stacks,
            "adapters": sorted(model.partition("@")[2] for model in held.adapters),
        }

    def close(self) -> None:
        """Close the connections; the server goes on."""
        self._server.close()

    def _held(self) -> _Held:
        with _understood():
            models = self._server.models()["data"]
            is_ours = all(model.get("owned_by") == OWNER for model in models)
            limits = [int(model["max_adapters"]) for model in models if is_ours and "max_adapters" in model]
            return _Held(
                [str(model["id"]) for model in models if model.get("parent") is None],
                {str(model["id"]) for model in models if model.get("parent") is not None},
                is_ours,
                min(limits, default=math.inf),
            )

    def _role(self, ref: AdapterRef, kind: str, base: str) -> _Role:
        """The adapter with its card, its files compared with their hash when this process first meets them."""
        if ref.digest not in self._read:
            path = self._store.verify(ref.digest).path
            self._read[ref.digest] = AdapterCard.read(path), Canaries.read(path)
        card, canaries = self._read[ref.digest]
        check_kind(ref, card, kind)
        if card.base != base:
            raise InputError(f"The adapter {ref.name} belongs to another base than its stack.")
        return _Role(ref, card, canaries)

    def _load(self, ref: AdapterRef) -> None:
        self._store.verify(ref.digest)  # A server that restarted reads the files anew, as they are by then.
        path = f"{self._server_store}/{ref.digest.removeprefix('sha256:')}"
        try:
            self._server.load(model_name(ref), path)
        except StackNotDeployed as error:
            raise EngineError(f"The engine's server cannot load adapters, or finds none at {path}.") from error
        except Failed as error:  # as of a rank beyond what vLLM was started for
            told = error.told or "its log says why."
            raise LoadError(f"The engine's server cannot load the adapter {ref.name}: {told}") from error
        except InputError:
            if model_name(ref) not in self._held().adapters:  # else another process was quicker
                raise

    def _prove(self, role: _Role, base: str, is_new: bool) -> None:
        """InputError, and a model that was loaded for nothing is unloaded, if the adapter may not serve."""
        model = model_name(role.ref)

        def likeliest(model: str, png: bytes, words: str) -> dict[int, float]:
            options = {"logprobs": True, "top_logprobs": TOP, "return_tokens_as_token_ids": True}
            chat = body(model, role.card, Request("", png, words), data_url(png), 1) | options
            with _answered(), _understood():
                answer = self._server.complete(chat, time.monotonic() + self._deadline_s)
                first, *_ = answer["choices"][0]["logprobs"]["content"]
                told = {_token_id(one["token"]): float(one["logprob"]) for one in first["top_logprobs"]}
                if not told:
                    raise ValueError("no log-probabilities")
                return told

        try:
            prove(role.card, role.canaries, partial(likeliest, model), partial(likeliest, base))
        except InputError as error:
            if is_new:
                with suppress(EngineError, InputError):
                    self._server.unload(model)
            raise InputError(f"Adapter {role.ref.name!r}: {error}") from error

    def _acquire(self, request: Request) -> _Deployed:
        check_request(request)
        with self._lock:
            deployed = self._stacks.get(request.stack)
        if deployed is None:
            raise StackNotDeployed(f"The engine does not hold the stack {request.stack[:80]}: deploy it first.")
        return deployed

    def _decide(self, asking: _Asking) -> Decision:
        router = asking.deployed.router
        limit = max(len(label.encode()) for label in router.card.labels) + 1

        def ask(labels: list[str]) -> list[Step]:
            options = {"logprobs": True, "top_logprobs": TOP, "structured_outputs": {"choice": labels}}
            with _understood():
                answer = self._server.complete(asking.body(router, limit) | options, asking.deadline)
                return [_step(entry) for entry in answer["choices"][0]["logprobs"]["content"]]

        chances = label_probabilities(router.card.labels, ask)
        asking.mark("route")
        label = best(chances)
        expert = asking.deployed.experts.get(label)
        chosen, timings, receipt = expert.ref if expert else None, dict(asking.timings), asking.receipt(label)
        return Decision(label, chosen, chances, router.ref, asking.request.stack, timings, receipt)

    def _answer(self, asking: _Asking, decision: Decision) -> Iterator[StreamEvent]:
        text, deltas, reason, usage = "", 0, None, None
        with _understood():
            try:
                with closing(self._server.stream(asking.body(asking.expert(decision)), asking.deadline)) as chunks:
                    for chunk in chunks:
                        usage = chunk.get("usage") or usage
                        for choice in chunk["choices"]:
                            reason = choice.get("finish_reason") or reason
                            if delta := choice["delta"].get("content"):
                                text, deltas = text + delta, deltas + 1
                                yield TextDelta(delta)
            except Late:
                if not text:
                    raise
                reason, usage = "deadline", usage or {"completion_tokens": deltas}
            yield asking.result(decision, text, reason, usage)


class _Asking:
    """One request under way."""

    def __init__(self, deployed: _Deployed, request: Request, seconds: float) -> None:
        self.deployed = deployed
        self.request = request
        self.timings: dict[str, float] = {}
        self._began = self._marked = time.monotonic()
        self.deadline = self._began + seconds
        self._image_url = data_url(request.image)
        self.mark("preprocess")

    def mark(self, stage: str) -> None:
        """Count the milliseconds since the last mark as those of `stage`."""
        now = time.monotonic()
        self.timings |= {stage: (now - self._marked) * 1000, "total": (now - self._began) * 1000}
        self._marked = now

    def expert(self, decision: Decision) -> _Role:
        """The one that answers."""
        return self.deployed.experts[decision.label]

    def body(self, role: _Role, max_tokens: int | None = None) -> dict[str, Any]:
        """A chat with the adapter."""
        limit = max_tokens or self.request.max_tokens
        return body(model_name(role.ref), role.card, self.request, self._image_url, limit)

    def nothing(self, decision: Decision) -> StackedResult:
        """No expert was meant."""
        receipt = self.receipt(decision.label).answered("")
        return StackedResult(decision, "", None, 0, "none", decision.timings, receipt)

    def result(self, decision: Decision, text: str, reason: Any, usage: Any) -> StackedResult:
        """The answer; servers count the end token among its tokens, and tell them at the end only."""
        if reason not in ("stop", "length", "deadline"):
            raise EngineError(f"The engine's server ended an answer for the reason {str(reason)[:80]!r}.")
        self.mark("generate")
        tokens = int(usage["completion_tokens"]) - (reason == "stop")
        receipt = self.receipt(decision.label).answered(text)
        if reason == "deadline":
            receipt = replace(receipt, max_tokens=tokens)
        return StackedResult(decision, text, parse_tool_call(text), tokens, reason, dict(self.timings), receipt)

    def receipt(self, label: str) -> Receipt:
        """What the server was asked with; what it computes in, and with what, it does not say."""
        router, expert = self.deployed.router, self.deployed.experts.get(label)
        return Receipt(
            stack=self.request.stack,
            base=self.deployed.spec.base,
            dtype="unknown",
            device="unknown",
            router=_used(router),
            labels=router.card.labels,
            label=label,
            expert=_used(expert) if expert else None,
            image=content_digest(self.request.image),
            prompt=self.request.prompt,
            max_tokens=self.request.max_tokens,
            packages=PACKAGES,
        )


def _used(role: _Role) -> Used:
    """The template is the card's texts alone: the server's chat template is its own."""
    card = role.card
    texts = content_digest(f"{card.system or ''}\0{card.human}".encode())
    return Used(role.ref.name, role.ref.digest, texts, card.min_pixels, card.max_pixels, role.canaries is not None)


def _check_plain(roles: list[_Role]) -> None:
    """InputError for an activated LoRA, which a server that knows no cards would apply to the whole prompt."""
    for role in roles:
        if role.card.invocation:
            raise InputError(f"The adapter {role.ref.name} is an activated LoRA: serve its stack with our own server.")


@contextmanager
def _answered() -> Iterator[None]:
    """EngineError where the server refuses what we ask of our own accord: no adapter and no client is to blame."""
    try:
        yield
    except InputError as error:
        raise EngineError(f"The engine's server refuses what it must be asked: {error}") from error


@contextmanager
def _understood() -> Iterator[None]:
    """EngineError for an answer in another form than the protocol's."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError("The engine's server answered something else than was asked for.") from error


def _step(entry: dict[str, Any]) -> Step:
    """The token of one position, and what else might have stood there."""
    told = {str(one["token"]): _probability(one["logprob"]) for one in (*entry["top_logprobs"], entry)}
    return Step(str(entry["token"]), told)


def _token_id(token: str) -> int:
    """Of vLLM's `token_id:17`."""
    return int(token.removeprefix("token_id:"))


def _probability(logprob: float) -> float:
    if not logprob <= 1e-3:  # not a number, or more than certain
        raise ValueError("no log-probability")
    return math.exp(logprob)
