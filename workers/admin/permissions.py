"""Who may launch, cancel and promote from the admin."""

from __future__ import annotations

from django.http import HttpRequest


class LaunchPermissions:
    """Names for the `permissions` of actions."""

    def has_launch_permission(self, request: HttpRequest) -> bool:
        """Whoever may add runs."""
        return request.user.has_perm("workers.add_run")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whoever may change runs."""
        return request.user.has_perm("workers.change_run")

    def has_promote_permission(self, request: HttpRequest) -> bool:
        """Whoever may change aliases."""
        return request.user.has_perm("adapters.change_alias")
