"""Apps, functions, classes, images, mounts, secrets: what `modal deploy` creates."""

from __future__ import annotations

import hashlib
import itertools
import shlex
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpclib import Status
from modal_proto import api_pb2 as pb

from tests.modal_plane.blobs import Blobs
from tests.modal_plane.service import no

LOOK_UP = (pb.OBJECT_CREATION_TYPE_UNSPECIFIED,)
_numbers = itertools.count(1)


def new_id(prefix: str) -> str:
    """An id like `fu-0000000000000000000017`."""
    return f"{prefix}-{next(_numbers):022d}"


@dataclass
class Function:
    """A function and its metadata, by the id that all its versions share."""

    id: str
    app: App
    definition: pb.Function = field(default_factory=pb.Function)
    metadata: pb.FunctionHandleMetadata = field(default_factory=pb.FunctionHandleMetadata)
    parameters: bytes = b""

    @property
    def data(self) -> pb.FunctionData:
        """As the client shows it."""
        data = pb.FunctionData(function_name=self.definition.function_name)
        data.ranked_functions.add(rank=0, function=self.definition)
        return data


@dataclass
class App:
    """An app with the layouts that were published, the newest last."""

    id: str
    name: str
    layouts: list[pb.AppLayout] = field(default_factory=list)
    running: bool = True


class Apps:
    """The registry."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self.root = root
        self.blobs = blobs
        self.apps: dict[str, App] = {}
        self.deployed: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, pb.ClassHandleMetadata] = {}
        self.images: dict[str, pb.Image] = {}
        self.mounts: dict[str, list[pb.MountFile]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.files: dict[str, Path] = {}

    # apps

    def ClientHello(self, request: Any) -> pb.ClientHelloResponse:
        return pb.ClientHelloResponse(image_builder_version="2025.06")

    def EnvironmentGetOrCreate(self, request: Any) -> pb.EnvironmentGetOrCreateResponse:
        metadata = pb.EnvironmentMetadata(name=request.deployment_name or "main")
        metadata.settings.image_builder_version = "2025.06"
        return pb.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    def AppGetByDeploymentName(self, request: Any) -> pb.AppGetByDeploymentNameResponse:
        app = self.deployed.get(request.name)
        return pb.AppGetByDeploymentNameResponse(app_id=app.id if app else "")

    def AppCreate(self, request: Any) -> pb.AppCreateResponse:
        app = App(new_id("ap"), request.description)
        self.apps[app.id] = app
        return pb.AppCreateResponse(app_id=app.id, app_page_url="http://loopback/app")

    def AppGetOrCreate(self, request: Any) -> pb.AppGetOrCreateResponse:
        app = self.deployed.get(request.app_name)
        if app is None:
            raise no(Status.NOT_FOUND, f"App '{request.app_name}' not found")
        return pb.AppGetOrCreateResponse(app_id=app.id)

    def AppGetLayout(self, request: Any) -> pb.AppGetLayoutResponse:
        return pb.AppGetLayoutResponse(app_layout=self.apps[request.app_id].layouts[-1])

    def AppHeartbeat(self, request: Any) -> None:
        pass

    def AppPublish(self, request: Any) -> pb.AppPublishResponse:
        app = self.apps[request.app_id]
        app.layouts.append(self._layout(request))
        if request.app_state == pb.APP_STATE_DEPLOYED:
            app.name = request.name
            self.deployed[request.name] = app
        return pb.AppPublishResponse(url="http://loopback/app", deployed_at=time.time())

    def AppClientDisconnect(self, request: Any) -> None:
        app = self.apps[request.app_id]
        if app not in self.deployed.values():
            app.running = False

    def AppStop(self, request: Any) -> None:
        """Its containers leave as soon as they ask for an input."""
        app = self.apps[request.app_id]
        app.running = False
        self.deployed = {name: deployed for name, deployed in self.deployed.items() if deployed is not app}

    def undeploy(self, name: str) -> None:
        """As if nobody had deployed the app."""
        self.deployed.pop(name, None)

    def _layout(self, request: Any) -> pb.AppLayout:
        layout = pb.AppLayout(function_ids=request.function_ids, class_ids=request.class_ids)
        for identity in request.function_ids.values():
            layout.objects.add(object_id=identity, function_handle_metadata=self.functions[identity].metadata)
        for identity in request.class_ids.values():
            layout.objects.add(object_id=identity, class_handle_metadata=self.classes[identity])
        return layout

    # functions and classes

    def FunctionPrecreate(self, request: Any) -> pb.FunctionPrecreateResponse:
        identity = request.existing_function_id or new_id("fu")
        function = self.functions.setdefault(identity, Function(identity, self.apps[request.app_id]))
        function.metadata = self._metadata(function, request)
        return pb.FunctionPrecreateResponse(function_id=identity, handle_metadata=function.metadata)

    def FunctionCreate(self, request: Any) -> pb.FunctionCreateResponse:
        function = self.functions[request.existing_function_id]
        if request.HasField("function_data"):
            ranked = request.function_data.ranked_functions[0].function
            function.definition.CopyFrom(ranked)
            for name in ("module_name", "function_name", "function_type", "is_class", "timeout_secs"):
                setattr(function.definition, name, getattr(request.function_data, name))
        else:
            function.definition.CopyFrom(request.function)
        function.definition.app_name = function.app.name
        function.metadata = self._metadata(function, function.definition)
        return pb.FunctionCreateResponse(
            function_id=function.id,
            function=function.definition,
            function_data=function.data,
            handle_metadata=function.metadata,
        )

    @staticmethod
    def _metadata(function: Function, source: Any) -> pb.FunctionHandleMetadata:
        metadata = pb.FunctionHandleMetadata(
            function_name=source.function_name,
            function_type=source.function_type,
            definition_id=f"de-{function.id}",
            function_schema=source.function_schema,
            supported_input_formats=source.supported_input_formats,
            supported_output_formats=source.supported_output_formats,
            app_id=function.app.id,
        )
        if hasattr(source, "class_parameter_info"):
            metadata.class_parameter_info.CopyFrom(source.class_parameter_info)
        for name, method in source.method_definitions.items():
            metadata.method_handle_metadata[name].CopyFrom(
                pb.FunctionHandleMetadata(
                    function_name=method.function_name or f"{source.function_name[:-1]}{name}",
                    function_type=method.function_type,
                    is_method=True,
                    use_method_name=name,
                    function_schema=method.function_schema,
                    supported_input_formats=method.supported_input_formats,
                    supported_output_formats=method.supported_output_formats,
                )
            )
        return metadata

    def FunctionGet(self, request: Any) -> pb.FunctionGetResponse:
        layout = self._published(request)
        if request.object_tag not in layout.function_ids:
            raise no(Status.NOT_FOUND, f"Function '{request.object_tag}' not found in app '{request.app_name}'")
        function = self.functions[layout.function_ids[request.object_tag]]
        return pb.FunctionGetResponse(
            function_id=function.id, handle_metadata=function.metadata, function=function.data
        )

    def FunctionBindParams(self, request: Any) -> pb.FunctionBindParamsResponse:
        """An instance of a class: its function with the constructor's arguments."""
        if request.HasField("function_options"):
            raise no(Status.UNIMPLEMENTED, "The loopback plane binds no options.")
        base = self.functions[request.function_id]
        identity = f"{base.id}-{hashlib.sha256(request.serialized_params).hexdigest()[:8]}"
        bound = self.functions.setdefault(identity, Function(identity, base.app))
        bound.definition, bound.metadata, bound.parameters = base.definition, base.metadata, request.serialized_params
        return pb.FunctionBindParamsResponse(bound_function_id=identity, handle_metadata=bound.metadata)

    def ClassCreate(self, request: Any) -> pb.ClassCreateResponse:
        identity = request.existing_class_id or new_id("cs")
        self.classes[identity] = pb.ClassHandleMetadata(methods=request.methods)
        return pb.ClassCreateResponse(class_id=identity, handle_metadata=self.classes[identity])

    def ClassGet(self, request: Any) -> pb.ClassGetResponse:
        layout = self._published(request)
        if request.object_tag not in layout.class_ids:
            raise no(Status.NOT_FOUND, f"Class '{request.object_tag}' not found in app '{request.app_name}'")
        identity = layout.class_ids[request.object_tag]
        return pb.ClassGetResponse(class_id=identity, handle_metadata=self.classes[identity])

    def _published(self, request: Any) -> pb.AppLayout:
        app = self.deployed.get(request.app_name)
        if app is None:
            raise no(Status.NOT_FOUND, f"App '{request.app_name}' not found in environment 'main'")
        if request.app_version > len(app.layouts):
            raise no(Status.NOT_FOUND, f"App '{request.app_name}' has no version {request.app_version}")
        return app.layouts[request.app_version - 1] if request.app_version else app.layouts[-1]

    # images, mounts, secrets

    def ImageGetOrCreate(self, request: Any) -> pb.ImageGetOrCreateResponse:
        identity = f"im-{hashlib.sha256(request.image.SerializeToString(deterministic=True)).hexdigest()[:22]}"
        self.images[identity] = request.image
        result = pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_SUCCESS)
        metadata = pb.ImageMetadata(python_version_info="Python 3.11", image_builder_version="2025.06")
        return pb.ImageGetOrCreateResponse(image_id=identity, result=result, metadata=metadata)

    def environment_of(self, image_id: str) -> dict[str, str]:
        """The ENV lines of an image and of those it builds on. What else it runs is this interpreter's packages."""
        image = self.images[image_id]
        found: dict[str, str] = {}
        for base in image.base_images:
            found |= self.environment_of(base.image_id)
        for line in image.dockerfile_commands:
            if line.startswith("ENV "):
                found |= dict(word.split("=", 1) for word in shlex.split(line[4:]))
        return found

    def MountBatchedCheckExistence(self, request: Any) -> pb.MountBatchedCheckExistenceResponse:
        missing = [digest for digest in request.sha256_hex_hashes if digest not in self.files]
        return pb.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    def MountPutFile(self, request: Any) -> pb.MountPutFileResponse:
        if request.WhichOneof("data_oneof") is not None:
            data = self.blobs.read(request.data_blob_id) if request.data_blob_id else request.data
            if hashlib.sha256(data).hexdigest() != request.sha256_hex:
                raise no(Status.INVALID_ARGUMENT, "the file is not what its hash says")
            path = self.root / "files" / request.sha256_hex
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.files[request.sha256_hex] = path
        return pb.MountPutFileResponse(exists=request.sha256_hex in self.files)

    def MountGetOrCreate(self, request: Any) -> pb.MountGetOrCreateResponse:
        identity = new_id("mo")  # a deployed mount is Modal's own client, which the interpreter has already
        self.mounts[identity] = list(request.files)
        return pb.MountGetOrCreateResponse(mount_id=identity)

    def mounted(self, mount_ids: Any) -> Path:
        """One folder that shows the files of all these mounts below it, as `/` would."""
        files = [file for identity in mount_ids for file in self.mounts[identity]]
        words = "\n".join(sorted(f"{file.filename} {file.sha256_hex}" for file in files))
        folder = self.root / "mounted" / hashlib.sha256(words.encode()).hexdigest()[:16]
        if not folder.exists():
            for file in files:
                target = folder / file.filename.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.files[file.sha256_hex], target)
        (folder / "root").mkdir(parents=True, exist_ok=True)
        return folder

    def SecretGetOrCreate(self, request: Any) -> pb.SecretGetOrCreateResponse:
        if request.deployment_name:
            raise no(Status.NOT_FOUND, f"Secret '{request.deployment_name}' not found")
        identity = new_id("st")
        self.secrets[identity] = dict(request.env_dict)
        return pb.SecretGetOrCreateResponse(secret_id=identity)
