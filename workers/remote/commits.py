"""Making what was written on a volume visible to others."""

from __future__ import annotations

import modal

OPEN_FILES = "open files"


def commit(volume: modal.Volume) -> None:
    """Commit. Some volumes are reloaded after that, which nobody needs and open files, as of a dataset, prevent."""
    try:
        volume.commit()
    except RuntimeError as error:
        if OPEN_FILES not in str(error):
            raise
