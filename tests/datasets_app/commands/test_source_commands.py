"""`draw_samples` and `register_source`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from datasets_app.models import SourceDataset

pytestmark = pytest.mark.django_db


def test_samples_are_drawn_once(settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And registered; a second call keeps them."""
    settings.DATA_ROOT = tmp_path
    for _ in range(2):
        call_command("draw_samples", "calendar", count=3, variant="unseen")
    source = SourceDataset.objects.get()
    assert (source.name, source.rows) == ("calendar-unseen", 3)
    assert "calendar-unseen: 3 rows" in capsys.readouterr().out


def test_a_folder_is_registered(samples: dict[str, Path]) -> None:
    """Under its name."""
    call_command("register_source", "calendar", str(samples["calendar"]))
    assert SourceDataset.objects.get().name == "calendar"


@pytest.mark.parametrize(
    "arguments",
    [
        ("register_source", "calendar", "/nowhere"),
        ("register_source", "../x", "/tmp"),  # noqa: S108
        ("draw_samples", "nonsense"),
        ("draw_samples", "calendar", "--count", "0", "--variant", "none"),
    ],
)
def test_wrong_input_is_exit_code_2(arguments: tuple[str, ...], settings: Any, tmp_path: Path) -> None:
    """And registers nothing."""
    settings.DATA_ROOT = tmp_path
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    assert caught.value.returncode == 2
    assert not SourceDataset.objects.exists()
