"""Who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:  # rest_framework.views imports this module
    from rest_framework.views import APIView


class StaffWrites(BasePermission):
    """Every user reads; staff launches, registers and promotes."""

    message = "Only staff may do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Deny anonymous always, and others who are not staff on anything but reads."""
        user = request.user
        if not user or not user.is_authenticated:
            return False
        return request.method in SAFE_METHODS or user.is_staff
