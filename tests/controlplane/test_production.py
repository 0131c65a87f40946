"""`SWITCHYARD_ENV=production`: what it refuses to start without, and what it then is to a browser behind a proxy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from controlplane.env import EXAMPLES, ROOT, env
from controlplane.processes import free_port, wait_until_up
from controlplane.supervisor import environment, read_procfile
from tests.controlplane.test_processes import process

HOST, PASSWORD = "switchyard.example.org", "correct horse battery"
THROUGH_TLS = {"Host": HOST, "X-Forwarded-Proto": "https"}
CSRF = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
PATIENCE = 120.0  # seconds, for machines that have much else to do

pytestmark = pytest.mark.django_db


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    """The environment of an installation that has what it needs, and a data folder without anything in it."""
    ours = ("SWITCHYARD_", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "WEB_CONCURRENCY")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
        "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        "SWITCHYARD_ENV": "production",
        "SWITCHYARD_DATA": str(tmp_path),
        "SWITCHYARD_HOSTS": f"{HOST},127.0.0.1",
        "SWITCHYARD_PROXIES": "1",
        "SWITCHYARD_ENGINE_TOKEN": "engine-token",
        "SECRET_KEY": "".join(map(chr, range(48, 123))),
    }


def run(words: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


WRONG = [
    ({"SECRET_KEY": "", "SWITCHYARD_HOSTS": "", "SWITCHYARD_PROXIES": ""}, "Set SECRET_KEY, SWITCHYARD_HOSTS, SWITCH"),
    ({"SWITCHYARD_ENGINE_TOKEN": " "}, "Set SWITCHYARD_ENGINE_TOKEN in the environment (docs/deployment.md)."),
    ({"SECRET_KEY": "short"}, "SECRET_KEY must be random, and at least 50 characters long."),
    ({"SWITCHYARD_ENV": "prod"}, "SWITCHYARD_ENV is 'prod': give local or production."),
    ({"SWITCHYARD_PROXIES": "-1"}, "SWITCHYARD_PROXIES is '-1': give how many reverse proxies a request passes"),
    ({"SWITCHYARD_INFER_RATE": "10/fortnight"}, "SWITCHYARD_INFER_RATE is '10/fortnight': give requests, at most"),
    ({"REDIS_URL": "host:6379"}, "REDIS_URL is no URL that can be used: give one like redis://"),
    ({"SWITCHYARD_PROMOTION_MARGIN": "5"}, "SWITCHYARD_PROMOTION_MARGIN is 5: give a share between 0 and 1"),
    ({"SWITCHYARD_LOCAL_SLOTS": "two"}, "SWITCHYARD_LOCAL_SLOTS: invalid literal for int()"),
    ({"SWITCHYARD_ENGINE_BATCH": "many"}, "SWITCHYARD_ENGINE_BATCH is 'many': give a whole number from 1 to 256."),
]


NO_URLS = [
    ("DATABASE_URL", "postgres://us:pa/ss@host/db"),
    ("DATABASE_URL", "host:5432"),
    ("DATABASE_URL", "/var/lib/db.sqlite3"),
    ("DATABASE_URL", "mysql://us:pass@host/db"),
    ("DATABASE_URL", "postgres://us:pass@host:5432"),
    ("EMAIL_URL", "smtp://us:pa/ss@host:25"),
    ("EMAIL_URL", "host:25"),
    ("EMAIL_URL", "smtp://"),
    ("REDIS_URL", "redis://:pa#ss@127.0.0.1:6399/0"),
    ("REDIS_URL", "127.0.0.1:6399"),
    ("REDIS_URL", "host:6379"),
    ("REDIS_URL", "redis://host:99999/0"),
    ("REDIS_URL", "redis://host:6379/name"),
    ("REDIS_URL", "amqp://host"),
    ("SWITCHYARD_ENGINE_URL", "127.0.0.1:8901"),
    ("SWITCHYARD_ENGINE_URL", "http://host:port"),
    ("SWITCHYARD_WEBHOOK_URL", "example.org/hook"),
]


@pytest.mark.parametrize(("name", "value"), NO_URLS)
def test_what_is_no_url_is_told_by_its_name_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    read = {"DATABASE_URL": env.db_url, "EMAIL_URL": env.email_url}.get(name, env.url)
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(name, "")
    words = f"give one like {EXAMPLES[name]}, with what is special in user or password percent-encoded."
    assert str(refusal.value) == f"{name} is no URL that can be used: {words}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis://:pa%23ss@host:6379/0"),
        ("REDIS_URL", "rediss://[::1]?ssl_cert_reqs=required"),
        ("SWITCHYARD_ENGINE_URL", "https://vllm.internal/prefix"),
        ("SWITCHYARD_WEBHOOK_URL", "https://hooks.example.org/a/b?sig=c%2Fd"),
        ("REDIS_URL", ""),
    ],
)
def test_a_url_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert env.url(name) == value


def test_a_database_of_several_hosts_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://h1:5432,h2:5432/name")
    assert env.db_url("DATABASE_URL", "")["HOST"] == "h1,h2"


@pytest.mark.parametrize(("changes", "sentence"), WRONG, ids=[", ".join(changes) for changes, _ in WRONG])
def test_the_supervisor_starts_nothing_and_says_why(
    production: dict[str, str], changes: dict[str, str], sentence: str
) -> None:
    done = run(["-m", "controlplane.supervisor"], production | changes)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


def test_serve_starts_nothing_either(production: dict[str, str], tmp_path: Path) -> None:
    done = run(["-m", "controlplane.serve"], production | {"SWITCHYARD_ENGINE_TOKEN": ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Set SWITCHYARD_ENGINE_TOKEN in the environment (docs/deployment.md).\n"
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_somebody_elses_needs_no_token(production: dict[str, str]) -> None:
    another = {"SWITCHYARD_ENGINE": "http", "SWITCHYARD_ENGINE_TOKEN": ""}
    done = run(["-c", "import controlplane.settings"], production | another)
    assert done.returncode == 0, done.stderr


def test_the_rate_of_requests_is_a_variable(production: dict[str, str]) -> None:
    code = "from controlplane.settings import REST_FRAMEWORK as it; print(it['DEFAULT_THROTTLE_RATES']['infer'])"
    assert run(["-c", code], production | {"SWITCHYARD_INFER_RATE": "6000/min"}).stdout == "6000/min\n"


def test_check_deploy_has_no_concern(production: dict[str, str]) -> None:
    done = run(["manage.py", "check", "--deploy", "--fail-level", "WARNING"], production)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def web(production: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of the web process, as its proxy is one."""
    if connection.vendor != "sqlite":
        pytest.skip("The installation is a copy of the test's database, a file.")
    User.objects.create_superuser("admin", password=PASSWORD)
    (tmp_path / "db.sqlite3").write_bytes(connection.connection.serialize())
    port, log = free_port(), tmp_path / "web.log"
    (procfile,) = read_procfile(["web"])
    variables = production | {"SWITCHYARD_PORT": str(port), "PATH": environment()["PATH"]}
    with process(["/bin/sh", "-c", f"exec {procfile.command}"], log, variables):
        url = f"http://127.0.0.1:{port}"
        wait_until_up(f"{url}/health", seconds=PATIENCE, log=log)
        with httpx.Client(base_url=url, headers=THROUGH_TLS, timeout=PATIENCE, trust_env=False) as client:
            yield client


def test_it_serves_the_admin_with_its_looks_and_a_log_in_over_tls_alone(web: httpx.Client) -> None:
    """Health checks come without."""
    page = web.get("/admin/login/")
    assert page.status_code == 200
    assert "max-age=31536000" in page.headers["Strict-Transport-Security"]
    assert "Secure" in page.headers["Set-Cookie"]
    sheets = re.findall(r'<link[^>]+href="(/static/[^"]+\.css)"', page.text)
    assert "/static/unfold/css/styles.css" in sheets
    assert {web.get(sheet).status_code for sheet in sheets} == {200}
    assert web.get("/ready", headers={"X-Forwarded-Proto": "http"}).status_code == 503
    plain = web.get("/admin/login/", headers={"X-Forwarded-Proto": "http"})
    assert (plain.status_code, plain.headers["Location"]) == (301, f"https://{HOST}/admin/login/")
    assert web.get("/admin/login/", headers={"Host": "another.example.org"}).status_code == 400
    form = {"csrfmiddlewaretoken": CSRF.findall(page.text)[0], "username": "admin", "password": PASSWORD}
    cookie = page.headers["Set-Cookie"].partition(";")[0]  # a secure one, which httpx keeps from http
    inside = web.post("/admin/login/", data=form, headers={"Origin": f"https://{HOST}", "Cookie": cookie})
    assert (inside.status_code, inside.headers["Location"]) == (302, "/admin/")
