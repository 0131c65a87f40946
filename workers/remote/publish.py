"""Send an adapter version to a volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters.peft_config import CONFIG_FILE
from adapters.store import MAX_BYTES, StoredFile, file_names, manifest_digest
from datasets_app.errors import InputError
from datasets_app.places import Place
from workers.recipes.manifest import hash_file
from workers.remote.volumes import Folder


def publish(
    version: Path,
    place: Place,
    environment: str | None = None,
    *,
    is_known: Callable[[str], bool],
    replace: bool = False,
) -> list[str]:
    """Send the stored files of an adapter version to `place`, or to its `final/` if the adapter there lies in that.

    Only what is not there yet is sent; the names of those files are returned. Other files are replaced if together
    they are a version whose digest `is_known`, or with `replace`; else that is an InputError.
    """
    folder = Folder(place, environment)
    there = {entry.name: entry for entry in folder.files(recursive=False) if entry.name in MAX_BYTES}
    if CONFIG_FILE not in there:
        below = {entry.name: entry for entry in (folder / "final").files(recursive=False) if entry.name in MAX_BYTES}
        if CONFIG_FILE in below:
            folder, there = folder / "final", below
    ours = {name: (hash_file(version / name), (version / name).stat().st_size) for name in file_names(version)}
    theirs = {name: (folder.hash(entry), entry.size) for name, entry in there.items()}
    foreign = sorted(theirs.keys() - ours.keys())
    if foreign:  # beside these files they would make another version
        raise InputError(
            f"{folder.place} holds {', '.join(foreign)}, which this version does not have: remove it first."
        )
    if any(theirs[name] != ours[name] for name in theirs) and not replace:
        digest = manifest_digest(tuple(StoredFile(name, *facts) for name, facts in sorted(theirs.items())))
        if not is_known(digest):
            raise InputError(f"{folder.place} holds files that are no version known here: --replace exchanges them.")
    missing = [name for name in ours if theirs.get(name) != ours[name]]
    if missing:
        folder.send({name: version / name for name in missing})
    return missing
