"""How lines of the log are written."""

from __future__ import annotations

import logging

from datasets_app.text import cut_urls


class Formatter(logging.Formatter):
    """Shows of URLs the host alone, also in the words of errors that are traced."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return cut_urls(super().format(record))
