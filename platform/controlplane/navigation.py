"""The admin's name, looks and navigation."""

from __future__ import annotations

from django.urls import reverse_lazy


def _page(title: str, icon: str, model: str) -> dict[str, object]:
    return {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{model}_changelist")}


UNFOLD = {
    "SITE_TITLE": "Switchyard",
    "SITE_HEADER": "Switchyard",
    "SITE_SUBHEADER": "LoRA experts and their router",
    "SITE_SYMBOL": "alt_route",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "COMMAND": {"search_models": True},
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": "Work",
                "items": [
                    _page("Pipelines", "account_tree", "workers_pipeline"),
                    _page("Runs", "play_circle", "workers_run"),
                    _page("Schedules", "schedule", "django_celery_beat_periodictask"),
                    _page("Slots", "event_available", "workers_slot"),
                    _page("Alerts", "notifications", "workers_alert"),
                    _page("Notifications", "outgoing_mail", "workers_notification"),
                ],
            },
            {
                "title": "Adapters",
                "items": [
                    _page("Adapters", "extension", "adapters_adapter"),
                    _page("Versions", "history", "adapters_adapterversion"),
                    _page("Evaluations", "query_stats", "adapters_evaluation"),
                    _page("Stacks", "layers", "adapters_stack"),
                    _page("Aliases", "flag", "adapters_alias"),
                    _page("Promotions", "published_with_changes", "adapters_promotion"),
                    _page("Base models", "foundation", "adapters_basemodel"),
                ],
            },
            {
                "title": "Datasets",
                "items": [
                    _page("Sources", "photo_library", "datasets_app_sourcedataset"),
                    _page("Routing datasets", "dataset", "datasets_app_routingdataset"),
                    _page("Prepared datasets", "inventory_2", "datasets_app_prepareddataset"),
                ],
            },
            {
                "title": "Administration",
                "collapsible": True,
                "items": [
                    _page("Users", "person", "auth_user"),
                    _page("Groups", "group", "auth_group"),
                    _page("API tokens", "key", "knox_authtoken"),
                    _page("Failed log-ins", "lock", "axes_accessattempt"),
                    {"title": "API documentation", "icon": "api", "link": reverse_lazy("docs")},
                ],
            },
        ],
    },
}
