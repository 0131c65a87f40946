"""What is wrong with the account on Modal, on top of the pages of what runs there."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse

from workers.services import account_problems


class AccountBanner:
    """Warns on the list and on the form, whoever may see them. The web process itself never asks Modal."""

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The list."""
        self._warn(request)
        response: HttpResponse = super().changelist_view(request, *args, **kwargs)  # type: ignore[misc]
        return response

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The form."""
        self._warn(request)
        response: HttpResponse = super().add_view(request, *args, **kwargs)  # type: ignore[misc]
        return response

    def _warn(self, request: HttpRequest) -> None:
        if request.method == "GET" and self.has_view_permission(request):  # type: ignore[attr-defined]
            for problem in account_problems():
                messages.warning(request, f"Modal: {problem}")
