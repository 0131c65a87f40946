#!/usr/bin/env python
"""Run administrative tasks."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Put the `platform/` source root on the path, then hand over to Django."""
    # Behind the script's own folder: `import platform` must stay the standard library's.
    sys.path.insert(1, str(Path(__file__).resolve().parent / "platform"))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
