"""What is logged, and how it is written."""

from __future__ import annotations

from typing import Any

import structlog

from controlplane.env import env

structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        # A line of the log as any other. By default the values of local variables are rendered, also those of requests.
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"class": "datasets_app.log.Formatter", "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("SWITCHYARD_LOG_LEVEL")},
    "loggers": {name: {"level": "WARNING"} for name in ("axes", "django_structlog", "httpx", "httpcore")},
}
