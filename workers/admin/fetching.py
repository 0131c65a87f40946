"""Forms that take `volume:path`: a run fetches the files, and its page is shown."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from datasets_app.admin.base import ServiceAdmin, launched
from workers.models import Run
from workers.services import launch

FETCH = "_switchyard_fetch"


class FetchingAdmin(ServiceAdmin):
    """`fetch` instead of saving; whoever may save may fetch."""

    def fetch(self, request: HttpRequest, **wish: Any) -> None:
        """Launch the run that this request is answered with."""
        setattr(request, FETCH, launch(Run.Kind.FETCH, wish, user=cast(User, request.user)))

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """The page of the run, if there is one."""
        return self._to_run(request) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """The page of the run, if there is one."""
        return self._to_run(request) or super().response_change(request, obj)

    def _to_run(self, request: HttpRequest) -> HttpResponse | None:
        run: Run | None = getattr(request, FETCH, None)
        if run is None:
            return None
        self.message_user(request, launched(run), messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:workers_run_change", args=[run.pk]))
