"""Containers: processes that run the modal client's own container entrypoint."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from grpclib.server import Server
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto import api_pb2 as pb

from tests.modal_plane.apps import Apps, Function, new_id
from tests.modal_plane.volumes import Copy, Volumes

INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class Container:
    """One process, with volumes of its own below `folder` and a socket over which it speaks."""

    def __init__(self, function: Function, folder: Path) -> None:
        self.id = folder.name
        self.function = function
        self.folder = folder
        self.log = folder / "log"
        self.volumes: dict[str, Copy] = {}
        self.process: Any = None
        self.server: Any = None
        self.calls: list[Any] = []
        self.leaving = self.preempted = False
        self.cancelled: list[str] = []
        self.cancelling = asyncio.Event()

    def cancel(self, input_id: str) -> None:
        """Let the container end one input and go on with the others."""
        self.cancelled.append(input_id)
        self.cancelling.set()

    def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Machines:
    """Starts containers."""

    def __init__(self, root: Path, apps: Apps, volumes: Volumes) -> None:
        self.root = root
        self.apps = apps
        self.volumes = volumes
        self.containers: list[Container] = []
        self.started: list[Container] = []
        self.service: Callable[[Container], Any]

    def free(self, function: Function) -> int:
        """How many inputs more the containers of the function will take."""
        return sum(
            max(0, (function.definition.max_concurrent_inputs or 1) - len(container.calls))
            for container in self.containers
            if container.function is function and not container.leaving
        )

    def is_full(self, function: Function) -> bool:
        """Whether the function has as many containers as it may have."""
        most = function.definition.autoscaler_settings.max_containers
        return 0 < most <= sum(container.function is function for container in self.containers)

    async def start(self, function: Function) -> Container:
        """Start a container of the function."""
        container = Container(function, self.root / new_id("ta"))
        container.folder.mkdir(parents=True)
        for mount in function.definition.volume_mounts:
            place = container.folder / mount.mount_path.lstrip("/")
            committed = self.volumes.committed(mount.volume_id)
            container.volumes[mount.volume_id] = await asyncio.to_thread(Copy, committed, place, mount.read_only)
        socket = self.root / f"{container.id[-4:]}.sock"  # a socket's path may have some 100 characters
        container.server = Server([self.service(container)], status_details_codec=custom_detail_codec)
        await container.server.start(path=str(socket))
        arguments = container.folder / "arguments"
        arguments.write_bytes(self._arguments(container).SerializeToString())
        code = self.apps.mounted(function.definition.mount_ids) / "root"
        with container.log.open("wb") as log:
            container.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "modal._container_entrypoint",
                cwd=code,
                env=self._environment(container, code, socket, arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.containers.append(container)
        self.started.append(container)
        return container

    def _environment(self, container: Container, code: Path, socket: Path, arguments: Path) -> dict[str, str]:
        definition = container.function.definition
        return {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            **self.apps.environment_of(definition.image_id),
            **{name: value for secret in definition.secret_ids for name, value in self.apps.secrets[secret].items()},
            "PYTHONPATH": str(code),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SWITCHYARD_VOLUMES": f"{container.folder}/vol",  # a machine of Modal's has a root of its own
            "MODAL_CONFIG_PATH": str(self.root / "no.toml"),
            "MODAL_SERVER_URL": f"unix://{socket}",
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": container.id,
            "MODAL_IMAGE_ID": definition.image_id,
            "MODAL_ENVIRONMENT": "main",
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
        }

    def _arguments(self, container: Container) -> pb.ContainerArguments:
        function = container.function
        layout = pb.AppLayout()
        layout.CopyFrom(function.app.layouts[-1])
        known = {item.object_id for item in layout.objects}
        for dependency in function.definition.object_dependencies:
            if dependency.object_id not in known:
                item = layout.objects.add(object_id=dependency.object_id)
                if dependency.object_id.startswith("vo-"):
                    item.volume_metadata.CopyFrom(self.volumes.metadata(dependency.object_id))
        return pb.ContainerArguments(
            task_id=container.id,
            function_id=function.id,
            app_id=function.app.id,
            function_def=function.definition,
            environment_name="main",
            app_layout=layout,
            serialized_params=function.parameters,
        )

    async def stop(self) -> None:
        """Kill all of them."""
        for container in self.containers:
            container.kill()
            await container.process.wait()
            container.server.close()
