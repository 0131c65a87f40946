"""The log is read by more people than may know every address."""

from __future__ import annotations

import logging
import sys


def test_the_log_shows_hosts_and_no_more_of_addresses_also_where_an_error_is_traced() -> None:
    (handler,) = (handler for handler in logging.getLogger().handlers if handler.name == "console")
    try:
        raise ConnectionError("https://us:KEY@bucket.example.com/KEY?sig=KEY")
    except ConnectionError:
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "At %s", ("https://b.io/KEY",), sys.exc_info())
    shown = handler.format(record)
    assert "At https://b.io/" in shown and "ConnectionError: https://bucket.example.com/" in shown
    assert "KEY" not in shown
