"""Run the engine process.

SWITCHYARD_ENGINE_TOKEN=… python -m inference.server --base PATH --store DIR --port 8801

SWITCHYARD_ENGINE_BATCH, …_QUEUE, …_DEADLINE, …_STACKS and …_ADAPTERS set its limits (docs/engines.md).
With --modal-app no model is loaded here: the requests go to the app's containers on Modal.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from adapters.backbone.spec import BaseSpec
from adapters.store import Store
from datasets_app.errors import InputError
from datasets_app.log import Formatter
from inference.engines.limits import Limits
from inference.server.app import build_app
from inference.server.host import Host, HostedEngine

TOKEN = "SWITCHYARD_ENGINE_TOKEN"  # noqa: S105 - the variable's name
SHUTDOWN_S = 10.0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    defaults = BaseSpec()
    parser = argparse.ArgumentParser(prog="python -m inference.server", description=__doc__)
    parser.add_argument("--base", default=defaults.path, help="folder or hub id of the base model")
    parser.add_argument("--revision", help="commit of a base from the hub")
    parser.add_argument("--device", default=defaults.device)
    parser.add_argument("--dtype", default=defaults.dtype)
    parser.add_argument("--store", type=Path, required=True, help="folder of the adapter store")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, help="CPU threads of a forward pass")
    parser.add_argument("--modal-app", help="answer with the class that this app has deployed on Modal")
    parser.add_argument("--modal-volume", help="its volume of adapters")
    parser.add_argument("--modal-environment")
    parser.add_argument("--modal-version", type=int)
    return parser.parse_args(arguments)


def load_engine(options: argparse.Namespace, failed: Callable[[], object]) -> HostedEngine:
    """Load the model; imports torch, or modal, here so that the port opens at once.

    `failed` is called when it can answer nobody any more.
    """
    if options.modal_app:
        from inference.engines.modal.engine import ModalEngine

        where = {"environment": options.modal_environment, "version": options.modal_version}
        return ModalEngine(options.modal_app, Store(options.store), options.modal_volume, **where)
    # On a busy machine threads that spin while they wait make a forward pass many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    import torch

    from adapters.backbone.loading import resolve_device
    from inference.engines.in_process import InProcessEngine

    if options.threads:
        torch.set_num_threads(options.threads)
    spec = BaseSpec(options.base, options.revision, options.dtype, options.device)
    limits = Limits.from_env(on_gpu=resolve_device(options.device).type == "cuda")
    return InProcessEngine.load(spec, Store(options.store).path, limits, failed)


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit status 1 if the model could not be loaded, or failed for good, 2 for a wrong
    setting.
    """
    options = parse(sys.argv[1:])
    token = os.environ.get(TOKEN, "")
    if not token:
        sys.stderr.write(f"Set {TOKEN}: the engine answers nobody without a token.\n")
        return 2
    try:
        Limits.from_env(on_gpu=False)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    failures: list[int] = []

    def failed() -> None:
        failures.append(1)
        os.kill(os.getpid(), signal.SIGTERM)

    host = Host(lambda: load_engine(options, host.fail), failed)
    app = build_app(host, token)
    web.run_app(
        app,
        host=options.host,
        port=options.port,
        handler_cancellation=True,  # A client that left takes its request out of the queue.
        shutdown_timeout=SHUTDOWN_S,
        access_log=None,
        print=None,
    )
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
