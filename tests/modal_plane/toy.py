"""An app that uses what the plane is there for."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Thread

import modal
import modal.experimental

app = modal.App("toy")
volume = modal.Volume.from_name("toy-data", create_if_missing=True, version=2)
claims = modal.Dict.from_name("toy-claims", create_if_missing=True)
image = modal.Image.debian_slim("3.11").env({"COLOUR": "dark green"}).add_local_python_source("tests")
DATA = Path(os.environ.get("SWITCHYARD_VOLUMES", "/vol")) / "data"


@app.function(image=image, volumes={"/vol/data": volume}, gpu=["H100", "A100"], timeout=60)
def work(words: str) -> str:
    """Claim, read and write the volume, and say so."""
    call = modal.current_function_call_id()
    first = claims.put(words, call, skip_if_exists=True)
    print(f"{words} is {'mine' if first else claims.get(words)}")
    volume.reload()
    (DATA / words).write_text(os.environ["COLOUR"])
    volume.commit()
    if words == "break":
        raise ValueError("broken")
    if words == "leave":
        thread = Thread(target=modal.experimental.stop_fetching_inputs)
        thread.start()
        thread.join()
    if words.startswith("sleep"):
        time.sleep(60)
    return f"{words}: {', '.join(sorted(path.name for path in DATA.iterdir()))}"


@app.local_entrypoint()
def ask(words: str) -> None:
    """`modal run -m tests.modal_plane.toy --words x`."""
    print(work.remote(words))
