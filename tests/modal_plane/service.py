"""The `modal.client.ModalClient` gRPC service, generated from the protocol that the modal package carries.

A part of the plane is an object whose methods are named like the calls they answer. A call that no part answers
fails with UNIMPLEMENTED and its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message_factory import GetMessageClass
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from modal_proto import api_pb2 as pb

from tests.modal_plane.faults import Faults

TOKEN = ("ak-loopback", "as-loopback")


def no(status: Status, message: str) -> GRPCError:
    """The error that a call ends with."""
    return GRPCError(status, message)


class Service:
    """Answers one caller: the clients outside (`container` is None), or one container."""

    def __init__(self, parts: Iterable[object], faults: Faults, container: Any = None) -> None:
        self.parts = list(parts)
        self.faults = faults
        self.container = container

    def __mapping__(self) -> dict[str, Handler]:
        service = pb.DESCRIPTOR.services_by_name["ModalClient"]
        return {f"/{service.full_name}/{method.name}": self._handler(method) for method in service.methods}

    def _handler(self, method: Any) -> Handler:
        cardinality = Cardinality.UNARY_STREAM if method.server_streaming else Cardinality.UNARY_UNARY
        request, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        found = next((getattr(part, method.name) for part in self.parts if hasattr(part, method.name)), None)

        async def handle(stream: Any) -> None:
            message = await stream.recv_message()
            self._check_token(dict(stream.metadata))
            if found is None:
                raise no(Status.UNIMPLEMENTED, f"The loopback plane does not answer {method.name}.")
            await self.faults.before(method.name, self.container)
            async for answer in self._answers(found, message):
                await stream.send_message(answer)

        async def handle_unary(stream: Any) -> None:
            message = await stream.recv_message()
            self._check_token(dict(stream.metadata))
            if found is None:
                raise no(Status.UNIMPLEMENTED, f"The loopback plane does not answer {method.name}.")
            await self.faults.before(method.name, self.container)
            answer = await self._answer(found, message)
            self.faults.after(method.name, self.container)
            await stream.send_message(reply() if answer is None else answer)

        return Handler(handle if method.server_streaming else handle_unary, cardinality, request, reply)

    def _check_token(self, metadata: dict[str, str]) -> None:
        if self.container is None:
            token = (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret"))
            if token != TOKEN or self.faults.bad_token:
                raise no(Status.UNAUTHENTICATED, "Token validation failed.")

    async def _answer(self, method: Callable[..., Any], message: Any) -> Any:
        answer = method(message, self.container) if _takes_container(method) else method(message)
        return await answer if inspect.isawaitable(answer) else answer

    async def _answers(self, method: Callable[..., Any], message: Any) -> Any:
        async for answer in method(message):
            yield answer


def _takes_container(method: Callable[..., Any]) -> bool:
    return len(inspect.signature(method).parameters) == 2
