"""The store: the same content once, nothing from outside the folder, no change unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from adapters.card import AdapterCard
from adapters.store import Store, read_verified
from datasets_app.errors import InputError

PREFIX = "base_model.model.model.language_model.layers.0.self_attn.q_proj"


def write_adapter(folder: Path, value: float = 0.5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    a, b = np.full((2, 8), value, np.float32), np.full((8, 2), value, np.float32)
    weights = save({f"{PREFIX}.lora_A.weight": a, f"{PREFIX}.lora_B.weight": b})
    (folder / "adapter_model.safetensors").write_bytes(weights)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    AdapterCard(kind="expert", base="sha256:b", min_pixels=1024, max_pixels=4096).write(folder)
    return folder


def test_files_without_a_card_get_one_that_invokes_them_as_they_say(store: Store, source: Path) -> None:
    default = AdapterCard.read(source)
    (source / "switchyard.json").unlink()
    assert AdapterCard.read(store.add(source, default_card=default).path) == default
    config = json.loads((source / "adapter_config.json").read_text()) | {"alora_invocation_tokens": [7, 8]}
    (source / "adapter_config.json").write_text(json.dumps(config))
    assert AdapterCard.read(store.add(source, default_card=default).path).invocation == (7, 8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "source")


def test_the_digest_is_that_of_the_canonical_manifest(store: Store, source: Path) -> None:
    stored = store.add(source)
    manifest = {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "size": file.stat().st_size}
        for file in sorted(source.iterdir())
    }
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    assert stored.digest == "sha256:" + hashlib.sha256(canonical).hexdigest()
    assert stored.path == store.path(stored.digest) == store.root / stored.digest.removeprefix("sha256:")
    assert stored.size == sum(file.stat().st_size for file in source.iterdir())
    assert store.verify(stored.digest) == stored


def test_other_files_and_where_they_lie_do_not_count(store: Store, source: Path, tmp_path: Path) -> None:
    first = store.add(source)
    write_adapter(tmp_path / "other" / "final")
    for name in ("README.md", "training_args.bin", "evil.py"):
        (tmp_path / "other" / "final" / name).write_text("x")
    assert store.add(tmp_path / "other").digest == first.digest
    assert sorted(file.name for file in first.path.iterdir()) == sorted(file.name for file in source.iterdir())
    assert store.add(write_adapter(tmp_path / "different", 0.25)).digest != first.digest


def test_adding_again_and_at_once_is_safe(store: Store, source: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        digests = {stored.digest for stored in threads.map(lambda _: store.add(source), range(24))}
    assert len(digests) == 1
    assert [folder.name for folder in store.root.iterdir()] == [digests.pop().removeprefix("sha256:")]


def test_a_broken_adapter_leaves_nothing(store: Store, source: Path) -> None:
    (source / "adapter_model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError):
        store.add(source)
    assert list(store.root.iterdir()) == []


def test_another_base_is_refused(store: Store, source: Path) -> None:
    with pytest.raises(InputError, match="another base"):
        store.add(source, expected_base="sha256:c")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "switchyard.json"])
def test_links_out_of_the_folder_are_not_followed(store: Store, source: Path, tmp_path: Path, name: str) -> None:
    shutil.move(source / name, tmp_path / "elsewhere")
    (source / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no link out"):
        store.add(source)
    (source / name).unlink()
    shutil.move(tmp_path / "elsewhere", source / "inside")
    (source / name).symlink_to("inside")
    assert store.add(source).size > 0


def test_special_files_are_refused_without_waiting(store: Store, source: Path) -> None:
    weights = source / "adapter_model.safetensors"
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(InputError, match="regular file"):
        store.add(source)
    weights.unlink()
    weights.mkdir()
    with pytest.raises(InputError, match="regular file"):
        store.add(source)


def test_missing_and_pickled_weights_are_told_apart(store: Store, source: Path) -> None:
    (source / "adapter_model.safetensors").rename(source / "adapter_model.bin")
    with pytest.raises(InputError, match="pickle"):
        store.add(source)
    (source / "adapter_model.bin").unlink()
    with pytest.raises(InputError, match="missing"):
        store.add(source)


@pytest.mark.parametrize("digest", ["", "sha256:", "../x", "sha256:" + "g" * 64, "sha256:" + "0" * 64 + "\n", "0" * 64])
def test_what_is_no_digest_is_refused(store: Store, digest: str) -> None:
    with pytest.raises(InputError, match="64 hex digits"):
        store.path(digest)


def test_an_unknown_digest_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="does not hold"):
        store.path("sha256:" + "0" * 64)


def test_a_changed_file_is_noticed(store: Store, source: Path) -> None:
    stored = store.add(source)
    assert set(read_verified(stored.path, stored.digest)) == {file.name for file in stored.files}
    config = stored.path / "adapter_config.json"
    config.chmod(0o644)
    config.write_text(config.read_text().replace('"lora_alpha": 4', '"lora_alpha": 5'))
    for check in (lambda: store.verify(stored.digest), lambda: read_verified(stored.path, stored.digest)):
        with pytest.raises(InputError, match="changed since"):
            check()
    with pytest.raises(InputError, match="changed since"):
        store.add(source)


def test_what_a_killed_process_left_is_removed_after_a_day(store: Store, source: Path) -> None:
    old, new = store.root / ".incoming-old", store.root / ".incoming-new"
    for leftover in (old, new):
        leftover.mkdir()
    os.utime(old, (0, 0))
    store.add(source)
    assert not old.exists()
    assert new.exists()
