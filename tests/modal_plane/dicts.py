"""Dicts: opaque keys and values; the server never opens them."""

from __future__ import annotations

from typing import Any

from grpclib import Status
from modal_proto import api_pb2 as pb

from tests.modal_plane.service import no


class Dicts:
    """By name."""

    def __init__(self) -> None:
        self.dicts: dict[str, dict[bytes, bytes]] = {}

    def DictGetOrCreate(self, request: Any) -> pb.DictGetOrCreateResponse:
        identity = f"di-{request.deployment_name}"
        if identity not in self.dicts:
            if request.object_creation_type != pb.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise no(Status.NOT_FOUND, f"Dict '{request.deployment_name}' not found")
            self.dicts[identity] = {}
        return pb.DictGetOrCreateResponse(dict_id=identity, metadata=pb.DictMetadata(name=request.deployment_name))

    def DictDelete(self, request: Any) -> None:
        del self.dicts[request.dict_id]

    def DictUpdate(self, request: Any) -> pb.DictUpdateResponse:
        held, created = self.dicts[request.dict_id], False
        for entry in request.updates:
            if not (request.if_not_exists and entry.key in held):
                created = True
                held[entry.key] = entry.value
        return pb.DictUpdateResponse(created=created)

    def DictGet(self, request: Any) -> pb.DictGetResponse:
        value = self.dicts[request.dict_id].get(request.key)
        return pb.DictGetResponse(found=value is not None, value=value)

    def DictPop(self, request: Any) -> pb.DictPopResponse:
        value = self.dicts[request.dict_id].pop(request.key, None)
        return pb.DictPopResponse(found=value is not None, value=value)
