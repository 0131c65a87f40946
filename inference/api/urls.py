"""Routes below /api/v1/."""

from django.urls import path

from datasets_app.api import converters  # noqa: F401 - <name:…>
from inference.api.auth import LoginView, LogoutView
from inference.api.engine import EngineView
from inference.api.infer import InferView, RouteView
from inference.api.promotion import PromoteView, RollBackView

urlpatterns = [
    path("auth/login/", LoginView.as_view(), name="login"),
    path("auth/logout/", LogoutView.as_view(), name="logout"),
    path("infer/", InferView.as_view(), name="infer"),
    path("route/", RouteView.as_view(), name="route"),
    path("engine/", EngineView.as_view(), name="engine"),
    path("adapters/<name:name>/promote/", PromoteView.as_view(), name="promote"),
    path("roll_back/", RollBackView.as_view(), name="roll-back"),
]
