"""The log is read by more people than may know every address."""

from __future__ import annotations

import logging
import sys

import pytest
import structlog


def test_the_log_shows_hosts_and_no_more_of_addresses_also_where_an_error_is_traced() -> None:
    (handler,) = (handler for handler in logging.getLogger().handlers if handler.name == "console")
    try:
        raise ConnectionError("https://us:KEY@bucket.example.com/KEY?sig=KEY")
    except ConnectionError:
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "At %s", ("https://b.io/KEY",), sys.exc_info())
    shown = handler.format(record)
    assert "At https://b.io/" in shown and "ConnectionError: https://bucket.example.com/" in shown
    assert "KEY" not in shown


def test_a_request_that_failed_is_traced_without_the_values_of_local_variables(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        secret = "-".join(("local", "value"))
        raise ValueError(len(secret))

    try:
        fail()
    except ValueError:
        structlog.get_logger("django_structlog.middlewares.request").exception("request_failed", code=500)
    told = caplog.text + "".join(capfd.readouterr())
    assert "request_failed" in told and "in fail" in told
    assert "local-value" not in told
