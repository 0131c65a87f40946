"""Whoever shows a model an image shows it the same pixels: training, evaluation, golden outputs and serving."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest

from adapters.backbone.loading import load_model, load_processor
from adapters.backbone.spec import BaseSpec, fingerprint, pixel_budget
from adapters.card import AdapterCard
from adapters.store import Store
from datasets_app.formats.pictures import check_image
from datasets_app.samples.source import write_source
from inference.engines.chat import model_name
from inference.engines.http.messages import body, data_url
from inference.engines.in_process import InProcessEngine
from inference.engines.in_process.canaries import Asked
from inference.engines.in_process.prompts import Pixels, PromptBuilder
from inference.engines.in_process.runner import Runner
from inference.engines.types import AdapterRef, Request
from tests.inference.engines.served import served
from tests.inference.engines.small import make_adapter
from tests.odd_pictures import odd_pictures
from tests.workers.recipes.recording import RecordingJob
from workers.recipes import generate_dataset, preprocess
from workers.recipes.evaluation.samples import read_questions
from workers.recipes.prepared import load_split
from workers.recipes.splits import Split
from workers.recipes.training.samples import Samples

ODD = odd_pictures()
WORDS, TOKEN = "Open it.", "engine-token"

Tensors = set[bytes]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Tensors:
    """The pixels that models were shown since the set was cleared."""
    shown: Tensors = set()
    pixels = PromptBuilder.pixels

    def remember(builder: PromptBuilder, *args: int) -> Pixels:
        made = pixels(builder, *args)
        shown.add(made.values.numpy().tobytes())
        return made

    monkeypatch.setattr(PromptBuilder, "pixels", remember)
    return shown


@pytest.fixture(scope="module")
def right() -> Tensors:
    """The pixels of what the images show."""
    budget = pixel_budget(BaseSpec())
    builder = PromptBuilder(load_processor(BaseSpec()))
    return {builder.pixels(shown, *budget).values.numpy().tobytes() for _, shown in ODD.values()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source dataset of the images, which say by no name what they are."""
    folder = tmp_path_factory.mktemp("odd")
    turns = [{"from": "human", "value": f"<image>\n{WORDS}"}, {"from": "gpt", "value": "<tool_call>…</tool_call>"}]
    with (folder / "data.jsonl").open("w") as file:
        for number, (data, _) in enumerate(ODD.values()):
            (folder / f"{number}.img").write_bytes(data)
            file.write(json.dumps({"image": f"{number}.img", "conversations": turns}) + "\n")
    return folder


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(load_model(BaseSpec()), load_processor(BaseSpec()))


def card() -> AdapterCard:
    least, most = pixel_budget(BaseSpec())
    return AdapterCard(kind="expert", base=fingerprint(BaseSpec()), min_pixels=least, max_pixels=most)


def prepare(folder: Path, root: Path) -> Path:
    job = RecordingJob(root)
    preprocess.run(preprocess.Spec(dataset=folder, split=Split(train=1, val=0, eval=0)), job)
    return job.out


def test_preprocessing_training_and_evaluation_see_what_the_images_show(
    source: Path, runner: Runner, seen: Tensors, right: Tensors, tmp_path: Path
) -> None:
    prepared = prepare(source, tmp_path)
    assert seen == right
    seen.clear()
    rows = load_split(prepared, "train")
    Samples(runner, card(), rows, cache_bytes=0).views(range(len(rows)))
    assert seen == right
    seen.clear()
    Asked(runner, card(), [(sample.image(), WORDS) for sample in read_questions(prepared, "train", None).samples])
    assert seen == right


def test_a_drawn_routing_dataset_shows_the_same_as_its_source(
    source: Path, runner: Runner, seen: Tensors, right: Tensors, tmp_path: Path
) -> None:
    others = write_source("calendar", tmp_path / "calendar", len(ODD), seed=1)
    spec = {
        "sources": [{"label": "odd", "path": source}, {"label": "calendar", "path": others}],
        "split": [1, 0, 0],
    }
    drawn = RecordingJob(tmp_path / "drawn")
    generate_dataset.run(generate_dataset.Spec.model_validate(spec), drawn)
    for folder in (drawn.out, prepare(drawn.out, tmp_path / "prepared")):
        seen.clear()
        samples = read_questions(folder, "train", None).samples
        Asked(runner, card(), [(sample.image(), WORDS) for sample in samples if sample.label == "odd"])
        assert seen == right


def test_an_engine_sees_the_same_however_it_is_asked(seen: Tensors, right: Tensors, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    expert = AdapterRef(
        "expert", store.add(make_adapter(lambda: load_model(BaseSpec()), tmp_path / "e", card())).digest
    )
    requests = [Request("", data, WORDS, 1) for data, _ in ODD.values()]
    engine = InProcessEngine.load(BaseSpec(), store.path)
    with served(engine, TOKEN) as url:
        engine.load_model(expert)
        seen.clear()
        engine.generate_many(expert, requests)
        assert seen == right
        for image_url in (data_url, as_given):
            seen.clear()
            for request in requests:
                asked = body(model_name(expert), card(), request, image_url(request.image), 1)
                headers = {"Authorization": f"Bearer {TOKEN}"}
                answer = httpx.post(f"{url}/v1/chat/completions", json=asked, headers=headers, timeout=60)
                assert answer.status_code == 200, answer.text
            assert seen == right


def as_given(image: bytes) -> str:
    kind = check_image(image)[0].lower()
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
