"""The product's settings with an engine that answers without a model, and no bound on the rate of requests: refusals
for that would be most of a fuzz run."""

from controlplane.settings import *  # noqa: F403
from controlplane.settings import REST_FRAMEWORK

ENGINE = {"BACKEND": "tests.inference.api.conftest.ScriptedEngine", "OPTIONS": {}}
REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] = dict.fromkeys(REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"])
