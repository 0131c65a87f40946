"""Every route of the product."""

from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from controlplane.health import health, ready

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("health", health, name="health"),
    path("ready", ready, name="ready"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("inference.api.urls")),
    path("api/v1/", include("datasets_app.api.urls")),
    path("api/v1/", include("adapters.api.urls")),
    path("api/v1/", include("workers.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", login_required(SpectacularSwaggerSplitView.as_view(url_name="schema")), name="docs"),
]

handler400 = "inference.api.errors.bad_request"
handler403 = "inference.api.errors.permission_denied"
handler404 = "inference.api.errors.page_not_found"
handler500 = "inference.api.errors.server_error"
