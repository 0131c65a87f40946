"""Path converters; importing this module makes them known to URL patterns."""

from django.urls import register_converter


class NameConverter:
    """`<name:…>`: a name as `datasets_app.names` knows it, so that nothing else reaches a query."""

    regex = r"[a-z0-9][a-z0-9._-]{0,63}"

    def to_python(self, value: str) -> str:
        """Return it as it is."""
        return value

    def to_url(self, value: str) -> str:
        """Return it as it is."""
        return value


register_converter(NameConverter, "name")
