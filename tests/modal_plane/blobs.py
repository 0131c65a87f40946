"""Blobs and the HTTP server by which they go up and down."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from aiohttp import web
from modal_proto import api_pb2 as pb


class Blobs:
    """Files by id; a volume's block has its SHA-256 for an id, in hex."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(parents=True)
        self.url = ""
        self._count = 0

    def path(self, blob: str) -> Path:
        """Where the blob lies."""
        return self.root / blob.replace("/", "")

    def read(self, blob: str) -> bytes:
        """Its bytes."""
        return self.path(blob).read_bytes()

    def BlobCreate(self, request: Any) -> pb.BlobCreateResponse:
        self._count += 1
        blob = f"bl-{self._count}"
        urls = pb.UploadUrlList(items=[f"{self.url}/{blob}"])
        return pb.BlobCreateResponse(blob_ids=[blob], upload_urls=urls)

    def BlobGet(self, request: Any) -> pb.BlobGetResponse:
        return pb.BlobGetResponse(download_url=f"{self.url}/{request.blob_id}")

    async def start(self) -> web.AppRunner:
        """Serve on a free port of the loopback interface."""
        app = web.Application(client_max_size=2**31)
        app.add_routes([web.put("/{blob}", self._put), web.get("/{blob}", self._get)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return runner

    async def _put(self, request: web.Request) -> web.Response:
        name, data = request.match_info["blob"], await request.read()
        if len(name) == 64 and hashlib.sha256(data).hexdigest() != name:
            return web.Response(status=400, text="the block is not what its hash says")
        self.path(name).write_bytes(data)
        return web.Response(body=name.encode(), headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})  # noqa: S324

    async def _get(self, request: web.Request) -> web.StreamResponse:
        path = self.path(request.match_info["blob"])
        if not path.exists():
            return web.Response(status=404)
        return web.FileResponse(path)
