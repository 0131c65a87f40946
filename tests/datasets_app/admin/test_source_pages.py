"""Registering source datasets in the admin."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from datasets_app.models import SourceDataset

SOURCES = "/admin/datasets_app/sourcedataset/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(client: Client) -> Client:
    """May do everything."""
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_a_folder_is_registered_and_registered_anew(root: Client, samples: dict[str, Path]) -> None:
    """Saving the page again reads the files again."""
    data = {"name": "calendar", "path": str(samples["calendar"]), "format": "llava"}
    assert root.post(f"{SOURCES}add/", data).status_code == 302
    source = SourceDataset.objects.get()
    assert source.rows == 80
    data = {"path": str(samples["other"]), "format": "llava"}
    assert root.post(f"{SOURCES}{source.pk}/change/", data).status_code == 302
    assert SourceDataset.objects.get().digest != source.digest


@pytest.mark.parametrize("path", ["/nowhere", "/etc/passwd", "../..", "x" * 1025])
def test_what_is_no_dataset_is_explained(root: Client, path: str) -> None:
    """And registers nothing."""
    data = {"name": "calendar", "path": path, "format": "llava"}
    response = root.post(f"{SOURCES}add/", data)
    assert response.status_code == 200
    form = response.context["adminform"].form
    assert list(form.errors) == ["path"]
    assert (form["name"].value(), form["path"].value()) == ("calendar", path)
    assert not SourceDataset.objects.exists()
