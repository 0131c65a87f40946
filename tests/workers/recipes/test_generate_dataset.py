"""Drawing routing datasets: balanced, without leaks, the same bytes for the same seed, and extensible by data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError

from datasets_app.errors import InputError
from datasets_app.formats import read_source, routing
from datasets_app.samples.source import write_source
from tests.workers.recipes.recording import RecordingJob
from workers.recipes import generate_dataset
from workers.recipes.generate_dataset import Spec
from workers.recipes.splits import SplitSource

PER_CLASS = 12


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two experts and a negative, forty screens each."""
    root = tmp_path_factory.mktemp("sources")
    kinds = ("provider-select", "calendar", "other")
    return [
        {"label": kind, "path": str(write_source(kind, root / kind, 40, seed=2)), "negative": kind == "other"}
        for kind in kinds
    ]


def generate(root: Path, sources: list[dict[str, Any]], name: str = "out", **options: Any) -> routing.RoutingDataset:
    spec = Spec.model_validate({"sources": sources, "samples_per_class": PER_CLASS} | options)
    job = RecordingJob(root, name)
    summary = generate_dataset.run(spec, job)
    assert summary["metadata"] == json.loads((job.out / "metadata.json").read_text())
    assert job.reports[-1][1] == job.reports[-1][2]
    return routing.read(job.out)


def test_is_balanced_and_says_so(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    dataset = generate(tmp_path, sources, split=[0.5, 0.25, 0.25])
    assert dataset.labels == ("calendar", "provider-select", "none")
    assert dataset.none_label == "none"
    for side, count in (("train", 6), ("val", 3), ("eval", 3)):
        rows = dataset.splits[side]
        assert {label: sum(row.label == label for row in rows) for label in dataset.labels} == dict.fromkeys(
            dataset.labels, count
        )
        assert all(row.image.suffix == ".png" for row in rows)
    sample = json.loads((tmp_path / "out" / "train.jsonl").read_text().splitlines()[0])
    assert sample["conversations"][1] == {"from": "human", "value": "<image>\nWhich adapter should handle this?"}
    assert set(sample["metadata"]) == {"adapter", "label", "source_id", "prompt", "answer"}
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["counts"]["val"] == {"calendar": 3, "provider-select": 3, "none": 3}
    assert str(tmp_path) not in (tmp_path / "out" / "metadata.json").read_text()


def test_two_fresh_processes_write_the_same_bytes(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    digests = []
    for number in (1, 2):
        out = tmp_path / f"out{number}"
        command = [sys.executable, "-m", "workers.recipes.generate_dataset", "--out", str(out), "--seed", "3"]
        command += ["--sources", json.dumps(sources), "--samples-per-class", str(PER_CLASS)]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": str(number)}, capture_output=True, text=True, check=True
        )
        digests.append(json.loads(done.stdout)["digest"])
        files = sorted(path for path in out.rglob("*") if path.is_file())
        digests.append(hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest())
    assert digests[:2] == digests[2:]


def test_another_seed_draws_another_dataset(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    one, two = (generate(tmp_path, sources, name=f"out{seed}", seed=seed) for seed in (0, 1))
    assert {row.source_id for row in one.splits["eval"]} != {row.source_id for row in two.splits["eval"]}


def test_holds_out_what_an_experts_own_split_holds_out(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    dataset = generate(tmp_path, sources, seed=6)
    for source in sources[:2]:
        split = SplitSource(list(read_source(Path(source["path"]))), None, 6)
        sides = {row.id: side for row, side in zip(split.rows, split.sides, strict=True)}
        for side, rows in dataset.splits.items():
            assert all(sides[str(row.source_id)] == side for row in rows if row.label == source["label"])


def test_a_screen_in_two_sources_is_held_out_in_both(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(sources[0]["path"], twin)
    lines = (twin / "data.jsonl").read_text().splitlines()
    # half of the copies are in groups of two, so that the twin source puts them on sides of its own
    rows = [json.loads(line) | {"metadata": {"group": f"pair-{number // 2}"}} for number, line in enumerate(lines)]
    (twin / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = [sources[0], {"label": "twin", "path": str(twin)}]
    dataset = generate(tmp_path, both, samples_per_class=6, split=[0.5, 0.25, 0.25], seed=1)
    sides: dict[bytes, set[str]] = {}
    for side, samples in dataset.splits.items():
        for sample in samples:
            sides.setdefault(sample.image.read_bytes(), set()).add(side)
    assert all(len(found) == 1 for found in sides.values())
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["duplicates"]["across_sources"] > 0


def test_a_fourth_expert_is_data_only(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    folder = tmp_path / "invoices"
    (folder / "images").mkdir(parents=True)
    with (folder / "data.jsonl").open("w") as file:
        for number in range(60):
            image = Image.new("RGB", (200, 150), (250, 250, 240))
            draw = ImageDraw.Draw(image)
            for line in range(8):
                draw.rectangle(
                    (10, 10 + 17 * line, 20 + (number * 37 + line * 53) % 170, 20 + 17 * line), fill=(9, 9, 9)
                )
            image.save(folder / "images" / f"{number}.jpg", quality=90)
            turns = [
                {"from": "human", "value": "<image>\nPay it."},
                {"from": "gpt", "value": "<tool_call>…</tool_call>"},
            ]
            row = {"id": f"i{number}", "image": f"images/{number}.jpg", "conversations": turns}
            file.write(json.dumps(row) + "\n")
    dataset = generate(tmp_path, [*sources, {"label": "invoices", "path": str(folder)}])
    assert dataset.labels == ("calendar", "invoices", "provider-select", "none")
    rows = [row for rows in dataset.splits.values() for row in rows if row.label == "invoices"]
    assert len(rows) == PER_CLASS
    assert Image.open(rows[0].image).format == "PNG"


def test_the_users_words_may_be_in_the_question(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    dataset = generate(tmp_path, sources, human="<image>\nWho answers: {prompt}")
    row = dataset.splits["train"][0]
    assert row.human == f"<image>\nWho answers: {row.prompt}"


def test_only_evaluation_samples(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    dataset = generate(tmp_path, sources, split=[0, 0, 1], samples_per_class=30)
    assert {side: len(rows) for side, rows in dataset.splits.items()} == {"train": 0, "val": 0, "eval": 90}


def test_too_few_screens_of_a_class(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    with pytest.raises(
        InputError, match="samples_per_class: class 'calendar' has 40 different screens, 100 are needed"
    ):
        generate(tmp_path, sources, samples_per_class=100)


def test_without_a_number_each_class_gives_what_it_has(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    """Two fifths of a small source are held out, by whichever draw."""
    few = tmp_path / "few"
    shutil.copytree(sources[1]["path"], few)
    lines = (few / "data.jsonl").read_text().splitlines()[:12]
    (few / "data.jsonl").write_text("\n".join(lines) + "\n")
    dataset = generate(tmp_path, [sources[0], {"label": "calendar", "path": str(few)}], samples_per_class=None)
    found = {
        label: [row for rows in dataset.splits.values() for row in rows if row.label == label]
        for label in dataset.labels
    }
    assert {label: len(rows) for label, rows in found.items()} == {"calendar": 12, "provider-select": 40}
    for label, rows in found.items():
        share = sum(row in dataset.splits["eval"] for row in rows) / len(rows)
        assert 0.1 < share < 0.7, label


def test_a_screen_with_many_questions_is_evaluated_once(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    many = tmp_path / "many"
    shutil.copytree(sources[1]["path"], many)
    rows = [json.loads(line) for line in (many / "data.jsonl").read_text().splitlines()]
    asked = [
        row
        | {
            "id": f"{row['id']}-{n}",
            "conversations": [{"from": "human", "value": f"<image>\n{n}?"}, row["conversations"][-1]],
        }
        for row in rows
        for n in range(5)
    ]
    (many / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    dataset = generate(tmp_path, [sources[0], {"label": "calendar", "path": str(many)}], samples_per_class=None)
    drawn = {
        side: [row.image.read_bytes() for row in rows if row.label == "calendar"]
        for side, rows in dataset.splits.items()
    }
    assert len(set(drawn["eval"])) == len(drawn["eval"]) > 0
    assert len(set(drawn["train"])) < len(drawn["train"]), "training takes them all"


def test_the_same_question_twice_counts_once(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    twice = tmp_path / "twice"
    shutil.copytree(sources[1]["path"], twice)
    rows = [json.loads(line) for line in (twice / "data.jsonl").read_text().splitlines()]
    again = [row | {"id": f"{row['id']}-again"} for row in rows]
    (twice / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + again))
    dataset = generate(tmp_path, [sources[0], {"label": "calendar", "path": str(twice)}])
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["duplicates"]["exact"] == 40
    drawn = [row.source_id for rows in dataset.splits.values() for row in rows if row.label == "calendar"]
    assert not any(str(identity).endswith("-again") for identity in drawn)


def test_a_wrong_row_names_source_file_and_line(tmp_path: Path, sources: list[dict[str, Any]]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(sources[1]["path"], broken)
    (broken / "images" / "calendar_00007.png").unlink()
    with pytest.raises(InputError) as caught:
        generate(tmp_path, [sources[0], {"label": "calendar", "path": str(broken)}])
    assert str(caught.value) == ("Source 'calendar': data.jsonl, line 8: image 'images/calendar_00007.png' is missing.")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sources": []},
        {"samples_per_class": 0},
        {"samples_per_class": 2},
        {"human": "no image"},
        {"human": "<image><image>"},
        {"human": "<image>{prompt}{prompt}"},
        {"system": "<image>"},
        {"none_label": "None!"},
        {"none_label": "calendar"},
        {"split": [0.9, 0.2, 0.1]},
        {"unknown": 1},
        {"sources": [{"label": "a", "path": "x"}, {"label": "b", "path": "x"}]},
        {"sources": [{"label": "a", "path": "x"}, {"label": "a", "path": "y"}]},
        {"sources": [{"label": "../a", "path": "x"}, {"label": "b", "path": "y"}]},
    ],
)
def test_a_spec_that_cannot_work(sources: list[dict[str, Any]], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Spec.model_validate({"sources": sources} | wrong)
