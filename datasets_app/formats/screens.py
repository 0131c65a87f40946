"""Which rows of a source dataset show the same screen."""

from __future__ import annotations

from collections.abc import Sequence

from datasets_app.formats.digest import file_digest
from datasets_app.formats.duplicates import DEFAULT_DISTANCE, Clusters, Hashes, near_pairs, perceptual_hashes
from datasets_app.formats.rows import SourceRow

MOST_COUNTED = 5000
"""Pictures from which on nobody counts at registration: each is compared with all others."""


class Screens:
    """Per row, `contents` holds the SHA-256 of the image file, `hashes` its perceptual hashes, and `same` says which
    rows show near-duplicates of one screen."""

    def __init__(self, rows: Sequence[SourceRow], distance: int = DEFAULT_DISTANCE) -> None:
        digests = {path: file_digest(path) for path in {row.image for row in rows}}
        self.contents = [digests[row.image] for row in rows]
        by_content: dict[str, Hashes] = {}
        for row, content in zip(rows, self.contents, strict=True):
            if content not in by_content:
                by_content[content] = perceptual_hashes(row.image)
        self.hashes = [by_content[content] for content in self.contents]
        self.same = Clusters(len(rows))
        self.same.join_all(self.contents)
        distinct = {content: index for index, content in enumerate(self.contents)}
        indices, hashes = list(distinct.values()), [by_content[content] for content in distinct]
        for i, j in near_pairs(hashes, hashes, distance):
            self.same.join(indices[i], indices[j])


def count_screens(rows: Sequence[SourceRow]) -> int | None:
    """How many different screens they show; None if they are too many to be compared."""
    if len({file_digest(path) for path in {row.image for row in rows}}) > MOST_COUNTED:
        return None
    same = Screens(rows).same
    return len({same.root(index) for index in range(len(rows))})
