"""The main job as README writes it: commands and HTTP against broker, engine, web, worker and beat, all really running.

The experts here have hardly been trained: what they answer is not the point. The router is trained for real.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.processes import free_port, supervisor
from datasets_app.samples.source import write_source
from tests.postgres import fresh_database

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]
EXPERTS = ("calendar", "claim-window", "provider-select")
DATASET = "routing_20260101_120000"
HARDLY = ("--max-steps", "4", "--set", "eval_every=4")
OPTIONS = {"train": "--detach"}
"""What is added to README's commands: a look at what happens meanwhile."""


def readme() -> list[str]:
    """What is to be typed of README's section on one's own adapters: to serve, to register, for a router, to ask."""
    section = (ROOT / "README.md").read_text().partition("## Your own adapters and data")[2].partition("\n## ")[0]
    return section.split("```")[1::2]


@dataclass(frozen=True)
class Installation:
    """A data folder of its own, and the processes on it."""

    data: Path
    environment: dict[str, str]
    url: str

    def manage(self, *words: str, expect: int = 0, timeout: float = 300) -> str:
        """Run a management command; what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == expect, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def bash(self, script: str) -> str:
        """Have bash run what README prints; what that printed."""
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def home(self) -> Path:
        """Where the user has examples, adapters and a screenshot."""
        return Path(self.environment["HOME"])

    def shell(self, code: str) -> Any:
        """The JSON that a line of Python prints within the installation."""
        return json.loads(self.manage("shell", "--no-imports", "-c", f"import json; {code}").splitlines()[-1])

    def start_worker(self) -> None:
        words = [sys.executable, "-m", "celery", "-A", "controlplane", "worker", "--concurrency", "2"]
        with (self.data / "worker.log").open("ab") as log:
            subprocess.Popen(words, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def kill_workers(self) -> None:
        """SIGKILL every process of the worker, of this installation and no other."""
        mine = f"SWITCHYARD_DATA={self.data}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"worker" in words and mine in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)

    def status(self, run: str) -> str:
        """The run's status; a failed or cancelled one fails the test with its error."""
        with self.client() as client:
            newest, *_ = client.get("/api/v1/runs/", params={"name": run}).raise_for_status().json()["results"]
        assert newest["status"] not in ("failed", "cancelled"), newest
        return str(newest["status"])

    @cached_property
    def token(self) -> str:
        """A user's."""
        made: str = self.shell(
            "from knox.models import AuthToken; from django.contrib.auth.models import User; "
            "print(json.dumps(AuthToken.objects.create(User.objects.create_user('tester'))[1]))"
        )
        return made

    def client(self) -> httpx.Client:
        """For the API."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Token {self.token}"}, timeout=60)


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    data = tmp_path_factory.mktemp("main-job")
    port = free_port()
    environment = {
        **os.environ,
        "SWITCHYARD_DATA": str(data),
        "SWITCHYARD_PORT": str(port),
        "SWITCHYARD_ENGINE_URL": f"http://127.0.0.1:{free_port()}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SWITCHYARD_PROMOTION_FLOOR": "0.5",  # few samples are held out
        "SWITCHYARD_PROMOTION_MARGIN": "0.4",
        "OMP_NUM_THREADS": "1",
        "HOME": str(data / "home"),
    }
    for secret in ("SECRET_KEY", "SWITCHYARD_ENGINE_TOKEN"):
        environment.pop(secret, None)  # the installation makes its own
    (data / "home").mkdir()
    here = Installation(data, environment, f"http://127.0.0.1:{port}")
    with ExitStack() as stack:
        if url := environment.get("DATABASE_URL"):
            environment["DATABASE_URL"] = stack.enter_context(fresh_database(url))
        here.manage("migrate", "--verbosity", "0")
        log = stack.enter_context((data / "processes.log").open("wb"))
        words = supervisor("broker", "engine", "web", "beat")
        processes = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        stack.callback(processes.wait, 90)
        stack.callback(processes.send_signal, signal.SIGTERM)
        here.start_worker()
        stack.callback(here.kill_workers)
        yield here


def files_for(name: str, installation: Installation) -> Path:
    """The trained expert's files as another version: of the same weights, by another card."""
    code = "from adapters.models import Adapter; from adapters.services import store; "
    trained = installation.shell(
        code + "print(json.dumps(str(store().path(Adapter.objects.get(name='calendar').current.digest))))"
    )
    folder = Path(shutil.copytree(trained, installation.home / "loras" / name))
    card = folder / "switchyard.json"
    card.chmod(0o644)
    card.write_text(json.dumps(json.loads(card.read_bytes()) | {"lineage": {"copied_for": name}}))
    return folder


@pytest.fixture(scope="module")
def live(installation: Installation) -> Installation:
    """Experts and router trained, the router evaluated and live; the worker was killed on the way."""
    manage = installation.manage
    manage("draw_samples", *EXPERTS, "--count", "150", "--seed", "1")
    installation.shell(
        "from adapters.services import register_adapter; from datasets_app.selectors import get_source; "
        "register_adapter('calendar', source=get_source('calendar')); print(1)"
    )
    manage("preprocess", "--dataset-name", "calendar")
    manage("train", "--dataset-name", "calendar", "--adapter", "calendar", "--run-name", "calendar-1", *HARDLY)
    for name in EXPERTS:
        files_for(name, installation)
    (installation.home / "data").symlink_to(installation.data / "samples")
    _, files, router, *_ = readme()
    installation.bash(files)
    for line in router.strip().splitlines()[:-1]:
        command = line.split()[2]
        installation.bash(f"{line} {OPTIONS.get(command, '')}")
        if command == "train":
            wait_for(lambda: installation.status("router-1") == "running")
            installation.kill_workers()
            installation.start_worker()
            wait_for(lambda: installation.status("router-1") == "succeeded")
    return installation


@pytest.fixture(scope="module")
def client(live: Installation) -> Iterator[httpx.Client]:
    with live.client() as client:
        yield client


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    """Screens of another seed, each with the expert they belong to."""
    root = tmp_path_factory.mktemp("unseen")
    screens = []
    for kind in EXPERTS:
        write_source(kind, root / kind, 10, seed=99)
        screens += [(kind, image.read_bytes()) for image in sorted((root / kind / "images").iterdir())]
    return screens


def test_killing_the_worker_cost_no_attempt(live: Installation) -> None:
    attempts = live.shell(
        "from workers.models import Attempt; print(json.dumps(list(Attempt.objects.values_list('outcome', flat=True))))"
    )
    assert set(attempts) == {"succeeded"}


def test_the_router_routes_unseen_screens_right(client: httpx.Client, unseen: list[tuple[str, bytes]]) -> None:
    answers = [
        client.post("/api/v1/route/", files={"image": image}, data={"prompt": "Do it."}).json() for _, image in unseen
    ]
    right = sum(answer["adapter"] == kind for answer, (kind, _) in zip(answers, unseen, strict=True))
    assert right >= 27, [answer["adapter"] for answer in answers]
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert set(answer["probabilities"]) == set(EXPERTS)


def test_an_answer_names_the_versions_that_gave_it(
    live: Installation, client: httpx.Client, unseen: list[tuple[str, bytes]]
) -> None:
    versions = live.shell(
        "from adapters.models import Adapter; "
        "print(json.dumps({a.name: a.current.digest for a in Adapter.objects.select_related('current')}))"
    )
    answer = client.post("/api/v1/infer/", files={"image": unseen[0][1]}, data={"prompt": "Do it."}).json()
    assert answer["router"] == versions["router"]
    assert answer["version"] == versions[answer["adapter"]]
    assert answer["tokens"] > 0
    assert set(answer["timings"]) >= {"vision", "route", "generate"}


def test_an_answer_is_given_again_from_its_receipt(
    live: Installation, client: httpx.Client, unseen: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    """By adapters that are what their training made."""
    answer = client.post("/api/v1/infer/", files={"image": unseen[0][1]}, data={"prompt": "Do it."}).json()
    assert answer["receipt"]["router"]["proven"]
    assert answer["receipt"]["expert"]["proven"]
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "screen.png").write_bytes(unseen[0][1])
    printed = live.manage("replay", str(tmp_path / "answer.json"), "--image", str(tmp_path / "screen.png"))
    assert "The answer is the same." in printed
    assert "differs" not in printed


def test_two_engine_processes_decide_alike(
    live: Installation, client: httpx.Client, unseen: list[tuple[str, bytes]]
) -> None:
    """The engine that serves, and the evaluation recipe in a process of its own."""
    report = live.shell(
        "from adapters.models import Evaluation; e = Evaluation.objects.latest('id'); "
        "from datasets_app.models import RoutingDataset; d = RoutingDataset.objects.get(); "
        "print(json.dumps([d.path, e.report['samples'][:12]]))"
    )
    folder, samples = Path(report[0]), report[1]
    for sample in samples:
        image = (folder / "images" / f"{sample['id']}.png").read_bytes()
        answer = client.post("/api/v1/route/", files={"image": image}, data={"prompt": "x"}).json()
        assert answer["label"] == sample["routed"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="README asks by curl")
def test_the_documented_request_is_answered(live: Installation, unseen: list[tuple[str, bytes]]) -> None:
    """With a token for the password of whoever may log in."""
    live.shell(
        "from django.contrib.auth.models import User; User.objects.create_superuser('admin', password='a-b'); print(1)"
    )
    (live.home / "screen.png").write_bytes(unseen[0][1])
    asked = readme()[3].replace("<password>", "a-b").replace("http://127.0.0.1:8000", live.url)
    assert json.loads(live.bash(asked))["adapter"] in EXPERTS


def test_without_a_token_nothing_is_answered(live: Installation) -> None:
    assert httpx.post(f"{live.url}/api/v1/infer/", data={"prompt": "x"}).status_code == 401


def test_stacked_inference_shows_each_sample(live: Installation) -> None:
    printed = live.bash(readme()[2].strip().splitlines()[-1])
    assert "95% interval" in printed
    assert printed.count("→") + printed.count("✗") == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("preprocess", "--dataset-name", "nothing"), "'nothing'"),
        (("evaluate", "--run-name", "nothing", "--dataset-name", DATASET), "no train run 'nothing'"),
        (("train", "--dataset-name", DATASET, "--set", "learning_rate=-1"), "learning_rate"),
        (("save_lora", "calendar", "/nowhere"), "nowhere"),
        (("generate_dataset", "--adapters", *EXPERTS, "--samples-per-class", "9999"), "needed"),
    ],
)
def test_wrong_input_is_one_sentence_and_an_exit_code(live: Installation, words: tuple[str, ...], message: str) -> None:
    printed = live.manage(*words, expect=2)
    assert message in printed
    assert "Traceback" not in printed


def test_launching_again_what_has_succeeded_reuses_it(live: Installation) -> None:
    printed = live.manage("generate_dataset", "--adapters", *EXPERTS, "--name", DATASET)
    assert "reused" in printed
