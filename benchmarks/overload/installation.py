"""An installation of the bench's own: stand-in engine, web process, and nginx before it where there is one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from controlplane.processes import free_port, wait_until_up

ROOT = Path(__file__).resolve().parents[2]
NGINX = ROOT / "config" / "nginx" / "switchyard.conf"
START_S = 120.0


@dataclass(frozen=True)
class Installation:
    """Where to ask, with or without the proxy, and the tokens of its users."""

    direct: str
    proxied: str | None
    tokens: list[str]


def _users(count: int) -> list[str]:
    """Database, champion and users; their tokens."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from knox.models import AuthToken

    from adapters.models import Adapter, AdapterVersion, Alias, BaseModel, Stack
    from inference.engines.types import content_digest

    call_command("migrate", verbosity=0)
    base = BaseModel.objects.create(name="stand-in", fingerprint=content_digest(b"base"), path="stand-in")
    router = Adapter.objects.create(name="router", kind=Adapter.Kind.ROUTER, base=base)
    version = AdapterVersion.objects.create(
        adapter=router, number=1, digest=content_digest(b"router"), size=0, card={"kind": "router"}, facts={}
    )
    stack = Stack.objects.create(router=version, digest=content_digest(b"stack"))
    Alias.objects.create(name=Alias.Name.CHAMPION, stack=stack)
    return [AuthToken.objects.create(User.objects.create_user(f"user-{number}"))[1] for number in range(count)]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    from controlplane.supervisor import environment  # reads the settings, which are made below

    with log.open("wb") as output:
        started = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def _nginx_conf(folder: Path, port: int, web_port: int) -> Path:
    """The documented configuration on the loopback interface, without TLS."""
    server = NGINX.read_text()
    server = server.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{web_port}")
    server = re.sub(r"(?m)^\s*ssl_certificate.*\n", "", server)
    paths = "\n".join(
        f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off;\npid {folder / 'nginx.pid'};\nerror_log stderr error;\nworker_processes 1;\n"
        f"events {{ worker_connections 2048; }}\nhttp {{\naccess_log off;\n{paths}\n{server}\n}}\n"
    )
    return conf


@contextmanager
def installed(folder: Path, users: int, deadline_s: int, seconds: float) -> Iterator[Installation]:
    """Run it while the block runs; each of the engine's rows takes `seconds`."""
    ports = [free_port() for _ in range(3)]
    os.environ.update(
        SWITCHYARD_DATA=str(folder),
        SWITCHYARD_PORT=str(ports[0]),
        SWITCHYARD_ENGINE_URL=f"http://127.0.0.1:{ports[1]}",
        SWITCHYARD_ENGINE_TOKEN="stand-in",  # noqa: S106
        SWITCHYARD_ENGINE_DEADLINE=str(deadline_s),
        SWITCHYARD_INFER_RATE="99999/sec",
        SWITCHYARD_HOSTS="127.0.0.1",
        SWITCHYARD_PROXIES="1",
        SWITCHYARD_LOG_LEVEL="CRITICAL",
        DJANGO_SETTINGS_MODULE="controlplane.settings",
    )
    from controlplane.supervisor import read_procfile

    tokens = _users(users)
    (web,) = read_procfile(["web"])
    standin = [sys.executable, "-m", "benchmarks.overload.standin", str(ports[1]), str(seconds)]
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    with ExitStack() as running:
        running.enter_context(_process(standin, folder / "engine.log"))
        running.enter_context(_process(["/bin/sh", "-c", f"exec {web.command}"], folder / "web.log"))
        if nginx:
            conf = _nginx_conf(folder, ports[2], ports[0])
            running.enter_context(_process([nginx, "-c", str(conf)], folder / "nginx.log"))
        direct, proxied = f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[2]}"
        wait_until_up(f"{os.environ['SWITCHYARD_ENGINE_URL']}/health", seconds=START_S, log=folder / "engine.log")
        wait_until_up(f"{direct}/health", seconds=START_S, log=folder / "web.log")
        if nginx:
            wait_until_up(f"{proxied}/health", seconds=START_S, log=folder / "nginx.log")
        yield Installation(direct, proxied if nginx else None, tokens)
