"""Liveness, for a load balancer."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe


@login_not_required
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """This process answers; it says nothing of the database, the broker or the engine."""
    return JsonResponse({"status": "ok"})
