"""Django settings; every value that differs between installations comes from `env.py`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from controlplane.compute import COMPUTE, COMPUTE_DEFAULT, LEASE_SECONDS, RUN_LIMITS  # noqa: F401
from controlplane.env import DATA, LOCAL, ROOT, broker_socket, env, has_own_broker, matching, share
from controlplane.limits import INFER_PLACES, USER_PLACES  # noqa: F401
from controlplane.logs import LOGGING  # noqa: F401
from controlplane.navigation import UNFOLD  # noqa: F401

matching("SWITCHYARD_ENV", "local|production", "local or production")
_NEEDED = ["SECRET_KEY"]
if env.str("SWITCHYARD_ENGINE") != "http":
    _NEEDED.append("SWITCHYARD_ENGINE_TOKEN")  # our engine's server answers nobody without one
if not LOCAL:
    _NEEDED += ["SWITCHYARD_HOSTS", "SWITCHYARD_PROXIES"]
if _missing := [name for name in _NEEDED if not env.str(name, "").strip()]:
    raise ImproperlyConfigured(f"Set {', '.join(_missing)} in the environment (docs/deployment.md).")

SECRET_KEY = env.str("SECRET_KEY")
if len(SECRET_KEY) < 50 or SECRET_KEY.startswith("django-insecure"):
    raise ImproperlyConfigured("SECRET_KEY must be random, and at least 50 characters long.")
DEBUG = False
ALLOWED_HOSTS = env.list("SWITCHYARD_HOSTS")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "axes",
    "controlplane",
    "datasets_app",
    "adapters",
    "inference",
    "workers",
]

MIDDLEWARE = [
    "inference.api.middleware.without_ports",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "inference.api.middleware.refuse_when_full",
    "inference.api.middleware.refuse_nul",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "inference.api.middleware.SlashMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",  # a new route fails closed
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "inference.api.middleware.limit_body",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
WSGI_APPLICATION = "controlplane.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "platform" / "controlplane" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",  # take the write lock at once: no deadlock on upgrade
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("SWITCHYARD_EMAIL_FROM")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["ip_address", "username"]]
AXES_CLIENT_IP_CALLABLE = "inference.api.authentication.client_address"
AXES_HTTP_RESPONSE_CODE = 429
AXES_VERBOSE = False
AXES_LOCKOUT_CALLABLE = "inference.api.errors.locked_out"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True  # served from the packages that bring them: there is no collectstatic to forget

PROXIES = int(matching("SWITCHYARD_PROXIES", "[0-9]", "how many reverse proxies a request passes, 0 to 9"))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = not LOCAL
SECURE_REDIRECT_EXEMPT = ["^(health|ready)$"]  # a load balancer asks without TLS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PROXIES else None
SECURE_HSTS_SECONDS = 0 if LOCAL else 365 * 24 * 3600
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # HSTS of other hosts, and in browsers' lists: not ours
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        # Unfold's Alpine.js evaluates expressions in the page.
        "script-src": ["'self'", "'unsafe-inline'", "'unsafe-eval'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "inference.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["datasets_app.api.permissions.StaffWrites"],
    "DEFAULT_SCHEMA_CLASS": "inference.api.schema.Schema",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "inference.api.pagination.Pages",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["inference.api.parsers.StrictJSONParser"],
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.UserRateThrottle",
        "rest_framework.throttling.AnonRateThrottle",
        "rest_framework.throttling.ScopedRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "user": "1200/min",
        "anon": "120/min",
        "infer": matching(
            "SWITCHYARD_INFER_RATE",
            "[1-9][0-9]{0,4}/(sec|min|hour|day)",
            "requests, at most 99999, and a period (sec, min, hour or day), as 600/min",
        ),
        "login": "20/min",
        "bad_token": "20/min",
    },
    "NUM_PROXIES": PROXIES,  # without one, X-Forwarded-For is the client's own word
    "EXCEPTION_HANDLER": "inference.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "URL_FORMAT_OVERRIDE": None,
}
REST_KNOX = {"TOKEN_TTL": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "Switchyard",
    "DESCRIPTION": "Stacked inference: a router adapter names the expert adapter that answers.",
    "VERSION": "1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,  # what comes in has other rules than what goes out: no empty text, files as bytes
    "ENUM_NAME_OVERRIDES": {
        "AdapterKind": "adapters.models.Adapter.Kind",
        "RunKind": "workers.models.Run.Kind",
        "PipelineKind": "workers.models.Pipeline.Kind",
        "RunStatus": "workers.states.Status",
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 28 * 1024 * 1024  # a 20 MiB image as base64
CSRF_FAILURE_VIEW = "inference.api.errors.csrf_failure"

CELERY_BROKER_URL = f"redis+socket://{broker_socket()}" if has_own_broker() else env.url("REDIS_URL")
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SOFT_TIME_LIMIT = 45
CELERY_TASK_TIME_LIMIT = 60
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_TASK_PUBLISH_RETRY = False  # the row is the outbox, the message a hint
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 300,
    "unacked_restore_interval": 10,
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    "max_retries": 0,
}
CELERY_BEAT_SCHEDULER = "controlplane.beat:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 2
_OWN = {  # however a row was left: beat makes it so again when it starts
    "enabled": True,
    "one_off": False,
    "start_time": None,
    "expires": None,
    "description": "The platform's own, which stands still without it.",
}
CELERY_BEAT_SCHEDULE = {
    "reconcile": {
        **_OWN,
        "task": "workers.tasks.reconcile",
        "schedule": timedelta(seconds=2),
        "options": {"expires": 2.0},  # a backlog of rounds is worth no more than the last one
    },
    "check_account": {
        **_OWN,
        "task": "workers.tasks.check_account",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60.0},
    },
    "deliver": {
        **_OWN,
        "task": "workers.tasks.deliver",
        "schedule": timedelta(seconds=15),
        "options": {"expires": 15.0},
    },
}
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

BASE_MODEL: dict[str, Any] = {
    "path": env.str("SWITCHYARD_BASE") or str(ROOT / "adapters/backbone/tiny/weights"),
    "revision": env.str("SWITCHYARD_BASE_REVISION") or None,
    "dtype": env.str("SWITCHYARD_DTYPE"),
    "device": env.str("SWITCHYARD_DEVICE"),
}
DATA_ROOT = DATA
VOLUMES_ROOT = DATA / "volumes"  # where import_loras finds the volumes that its file names
NOTIFY: dict[str, Any] = {
    "EMAILS": env.list("SWITCHYARD_NOTIFY_EMAILS"),
    "WEBHOOK_URL": env.url("SWITCHYARD_WEBHOOK_URL"),
    "WEBHOOK_SECRET": env.str("SWITCHYARD_WEBHOOK_SECRET"),
}
if NOTIFY["WEBHOOK_URL"] and len(NOTIFY["WEBHOOK_SECRET"]) < 16:
    raise ImproperlyConfigured("SWITCHYARD_WEBHOOK_SECRET must have at least 16 characters: it signs the webhook.")
RETENTION_DAYS = {  # for `prune`, which a new installation runs every night
    "jobs": 30,
    "checkpoints": 14,
    "datasets": 180,
    "records": 365,  # runs and their evaluations, pipelines, slots, alerts
}
PROMOTION_MARGIN = share("SWITCHYARD_PROMOTION_MARGIN")  # no class may fall by so much
PROMOTION_FLOOR = share("SWITCHYARD_PROMOTION_FLOOR")  # the recall that a new class must exceed
REEVALUATION_ALPHA = 0.01  # a fall that chance makes once in a hundred re-evaluations is an alert
_OUR_SERVER: dict[str, Any] = {
    "BACKEND": "inference.engines.remote.RemoteEngine",
    "OPTIONS": {"url": env.url("SWITCHYARD_ENGINE_URL"), "token": env.str("SWITCHYARD_ENGINE_TOKEN", "")},
}
ENGINES: dict[str, dict[str, Any]] = {
    "remote": _OUR_SERVER,
    "modal": _OUR_SERVER,  # whose process asks Modal's containers
    "http": {
        "BACKEND": "inference.engines.http.HttpEngine",
        "OPTIONS": {
            "url": env.url("SWITCHYARD_ENGINE_URL", ""),  # somebody else's server: there is no default
            "token": env.str("SWITCHYARD_ENGINE_TOKEN", ""),
            "store": str(DATA / "store" / "adapters"),
            "server_store": env.str("SWITCHYARD_ENGINE_STORE"),
        },
    },
}
if env.str("SWITCHYARD_ENGINE") not in ENGINES:
    raise ImproperlyConfigured(f"SWITCHYARD_ENGINE must be one of {', '.join(ENGINES)}.")
ENGINE = ENGINES[env.str("SWITCHYARD_ENGINE")]
ENGINE_ON_MODAL = env.str("SWITCHYARD_ENGINE") == "modal"
