"""Routes below /api/v1/."""

from django.urls import path

from datasets_app.api import converters  # noqa: F401 - <name:…>
from datasets_app.api.prepared import PreparedDatasetList
from datasets_app.api.routing import RoutingDatasetDetail, RoutingDatasetList
from datasets_app.api.sources import SourceDetail, SourceList

urlpatterns = [
    path("sources/", SourceList.as_view(), name="source-list"),
    path("sources/<name:name>/", SourceDetail.as_view(), name="source-detail"),
    path("routing-datasets/", RoutingDatasetList.as_view(), name="routing-dataset-list"),
    path("routing-datasets/<name:name>/", RoutingDatasetDetail.as_view(), name="routing-dataset-detail"),
    path("prepared-datasets/", PreparedDatasetList.as_view(), name="prepared-dataset-list"),
]
