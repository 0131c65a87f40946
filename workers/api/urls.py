"""Routes below /api/v1/."""

from django.urls import path

from workers.api.alerts import AlertList, AlertRead
from workers.api.pipelines import PipelineCancel, PipelineDetail, PipelineList, PipelineRetry
from workers.api.runs import RunCancel, RunDetail, RunList, RunLog, RunRetry

urlpatterns = [
    path("alerts/", AlertList.as_view(), name="alert-list"),
    path("alerts/<int:pk>/read/", AlertRead.as_view(), name="alert-read"),
    path("runs/", RunList.as_view(), name="run-list"),
    path("runs/<int:pk>/", RunDetail.as_view(), name="run-detail"),
    path("runs/<int:pk>/cancel/", RunCancel.as_view(), name="run-cancel"),
    path("runs/<int:pk>/retry/", RunRetry.as_view(), name="run-retry"),
    path("runs/<int:pk>/log/", RunLog.as_view(), name="run-log"),
    path("pipelines/", PipelineList.as_view(), name="pipeline-list"),
    path("pipelines/<int:pk>/", PipelineDetail.as_view(), name="pipeline-detail"),
    path("pipelines/<int:pk>/cancel/", PipelineCancel.as_view(), name="pipeline-cancel"),
    path("pipelines/<int:pk>/retry/", PipelineRetry.as_view(), name="pipeline-retry"),
]
