"""Routes below /api/v1/."""

from django.urls import path

from adapters.api.adapters import AdapterDetail, AdapterList
from adapters.api.evaluations import EvaluationDetail, EvaluationList
from adapters.api.stacks import StackList
from adapters.api.versions import VersionDetail, VersionList
from datasets_app.api import converters  # noqa: F401 - <name:…>

urlpatterns = [
    path("adapters/", AdapterList.as_view(), name="adapter-list"),
    path("adapters/<name:name>/", AdapterDetail.as_view(), name="adapter-detail"),
    path("adapters/<name:name>/versions/", VersionList.as_view(), name="version-list"),
    path("adapters/<name:name>/versions/<int:number>/", VersionDetail.as_view(), name="version-detail"),
    path("stacks/", StackList.as_view(), name="stack-list"),
    path("evaluations/", EvaluationList.as_view(), name="evaluation-list"),
    path("evaluations/<int:pk>/", EvaluationDetail.as_view(), name="evaluation-detail"),
]
