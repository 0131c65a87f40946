"""Who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:  # rest_framework.views imports this module
    from rest_framework.views import APIView


class StaffWrites(BasePermission):
    """Every user reads; staff launches, registers and promotes, with the permission that the view `needs`: the one that
    the admin asks for the same."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Deny anonymous always, and on anything but reads others than staff with the permission; where the view names
        none, all but superusers."""
        user = request.user
        if not user or not user.is_authenticated:
            return False
        if request.method not in SAFE_METHODS:
            demand(request, getattr(view, "needs", ""))
        return True


def demand(request: Request, permission: str) -> None:
    """PermissionDenied, hence HTTP 403, unless the user is staff and has the permission (`app.verb_model`)."""
    if not (request.user.is_staff and request.user.has_perm(permission)):
        raise PermissionDenied(f"Only staff with the permission {permission} may do this.")
