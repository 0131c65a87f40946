"""Every change to adapters, stacks and aliases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from adapters.backbone.spec import TINY_BASE, BaseSpec, fingerprint, pixel_budget
from adapters.base_shape import BaseShape
from adapters.card import ASSUMED, CARD_FILE, GIVEN, OWN_CARD, AdapterCard
from adapters.models import Adapter, AdapterVersion, Alias, BaseModel, Evaluation, Promotion, Stack
from adapters.models.adapter import NONE_LABEL
from adapters.selectors import stack_spec
from adapters.store import Store
from adapters.switch import Switch
from adapters.validation import adapter_root, validate_adapter, validate_card
from datasets_app.errors import InputError
from datasets_app.models import RoutingDataset, SourceDataset
from datasets_app.names import check_name
from datasets_app.paths import existing_folder
from datasets_app.places import Place, is_place


def store() -> Store:
    """The content-addressed store of adapter files."""
    return Store(Path(settings.DATA_ROOT) / "store" / "adapters")


def base_spec() -> BaseSpec:
    """The base model that the `BASE_MODEL` setting names."""
    return BaseSpec(**settings.BASE_MODEL)


def configured_base() -> BaseModel:
    """The base model of this installation, registered on first use."""
    spec = base_spec()
    base, _ = BaseModel.objects.get_or_create(
        fingerprint=fingerprint(spec),
        defaults={"name": _base_name(spec), "path": spec.path, "revision": spec.revision or ""},
    )
    if base.path != spec.path:  # the same files, in a folder that was moved
        base.path = spec.path
        base.save(update_fields=["path"])
    return base


def _base_name(spec: BaseSpec) -> str:
    stem = "tiny-base" if Path(spec.path) == TINY_BASE else Path(spec.path).name.lower()
    taken = BaseModel.objects.filter(name__startswith=stem).count()
    return check_name(f"{stem}-{taken + 1}" if taken else stem, "base model name")


def check_adapter(name: str, kind: str) -> None:
    """InputError unless an adapter of that name and kind may be registered, or is, on the configured base."""
    check_name(name, "adapter name")
    if name == NONE_LABEL:
        raise InputError(f"Adapter name {NONE_LABEL!r} is the router's answer for no expert: choose another.")
    known = Adapter.objects.select_related("base").filter(name=name).first()
    if known is None:
        return
    if known.kind != kind:
        raise InputError(f"Adapter {name!r} is registered as {known.kind}, not as {kind}.")
    base = configured_base()
    if known.base_id != base.pk:
        raise InputError(f"Adapter {name!r} belongs to base model {known.base.name!r}, not to {base.name!r}.")


def register_adapter(
    name: str,
    *,
    kind: str = Adapter.Kind.EXPERT,
    source: SourceDataset | None = None,
    description: str = "",
) -> Adapter:
    """Register the adapter `name` on the configured base, or give the registered one another source dataset."""
    check_adapter(name, kind)
    base = configured_base()
    adapter, created = Adapter.objects.get_or_create(
        name=name,
        defaults={"kind": kind, "base": base, "source": source, "description": description},
    )
    if created:
        return adapter
    check_adapter(name, kind)  # somebody else may have been first
    if source is not None and adapter.source_id != source.pk:
        adapter.source = source
        adapter.save(update_fields=["source"])
    return adapter


@dataclass(frozen=True)
class StoredFiles:
    """Adapter files that lie in the store, checked, and are no version yet."""

    digest: str
    size: int
    card: AdapterCard
    facts: dict[str, Any]


def import_adapter(
    name: str,
    directory: str | Path,
    *,
    kind: str = Adapter.Kind.EXPERT,
    source: SourceDataset | None = None,
    description: str = "",
    card: Mapping[str, Any] | None = None,
) -> AdapterVersion:
    """`register_adapter` and `add_version` of its files: both, or neither."""
    check_adapter(name, kind)
    files = store_files(directory, kind, configured_base(), card=card)
    with transaction.atomic():
        return record_version(register_adapter(name, kind=kind, source=source, description=description), files)


def add_version(adapter: Adapter, directory: str | Path, *, card: Mapping[str, Any] | None = None) -> AdapterVersion:
    """Put the adapter files in `directory` into the store as the next version of `adapter`; see `store_files`.

    The same files and card again return the version that exists.
    """
    return record_version(adapter, store_files(directory, adapter.kind, adapter.base, card=card))


def store_files(
    directory: str | Path, kind: str, base: BaseModel, *, card: Mapping[str, Any] | None = None
) -> StoredFiles:
    """Put the adapter files in `directory` (or its `final/`) into the store, for `record_version`.

    Gigabytes may be copied and hashed: to be called before a transaction, in which nobody else could write. Files
    without a card get that of `new_card`, with the fields in `card`. InputError if the files are broken, belong to
    another base, or bring a card beside the given.
    """
    if is_place(directory):
        place = Place.parse(str(directory))
        raise InputError(f"{place} lies on a volume: a run of kind fetch brings it here and registers it.")
    folder = existing_folder(directory, "The folder of adapter files")
    if card is not None and (adapter_root(folder) / CARD_FILE).exists():
        raise InputError(OWN_CARD)
    stored = store().add(
        folder,
        kind=kind,
        base=_shape(base),
        expected_base=base.fingerprint,
        default_card=new_card(kind, base, card),
    )
    facts = asdict(validate_adapter(stored.path))
    return StoredFiles(stored.digest, stored.size, AdapterCard.read(stored.path), facts)


def _shape(base: BaseModel) -> BaseShape | None:
    return BaseShape.find(BaseSpec(path=base.path, revision=base.revision or None))


def record_version(adapter: Adapter, files: StoredFiles) -> AdapterVersion:
    """The stored files as the next version of `adapter`, which is of their kind."""
    for _ in range(10):
        try:
            with transaction.atomic():
                return _next_version(adapter, files)
        except IntegrityError:  # another process took the number
            continue
    raise RuntimeError(f"No version number of adapter {adapter.name} could be taken.")


def _next_version(adapter: Adapter, files: StoredFiles) -> AdapterVersion:
    existing = AdapterVersion.objects.filter(adapter=adapter, digest=files.digest).first()
    if existing is None:
        last = AdapterVersion.objects.filter(adapter=adapter).aggregate(last=Max("number"))["last"] or 0
        existing = AdapterVersion.objects.create(
            adapter=adapter,
            number=last + 1,
            digest=files.digest,
            size=files.size,
            card=files.card.model_dump(mode="json"),
            facts=files.facts,
        )
    Adapter.objects.filter(pk=adapter.pk).update(current=existing)
    return existing


def new_card(kind: str, base: BaseModel, given: Mapping[str, Any] | None = None) -> AdapterCard:
    """The card of files that bring none: the fields that are `given`; else no system turn, the user's words as they
    are, the base's pixel budget. Its lineage says where it is from. InputError names a field that is wrong.
    """
    low, high = pixel_budget(BaseSpec(path=base.path, revision=base.revision or None))
    fields = {"kind": kind, "base": base.fingerprint, "min_pixels": low, "max_pixels": high, **(given or {})}
    card = AdapterCard.parse(json.dumps(fields).encode(), CARD_FILE)
    return card.model_copy(update={"lineage": {**card.lineage, "card": ASSUMED if given is None else GIVEN}})


def check_card(kind: str, given: Mapping[str, Any]) -> None:
    """InputError unless the given fields make a card for an adapter of that kind on the configured base."""
    base = configured_base()
    validate_card(new_card(kind, base, given), base.fingerprint, _shape(base))


def set_current(version: AdapterVersion) -> None:
    """Make `version` the one that a new stack takes."""
    Adapter.objects.filter(pk=version.adapter_id).update(current=version)


def build_stack(router: AdapterVersion) -> Stack:
    """The stack of `router` and the current version of each expert that it may name; found or created."""
    if router.adapter.kind != Adapter.Kind.ROUTER:
        raise InputError(f"{router} is not a router.")
    experts = []
    for label in router.card["labels"]:
        if label == NONE_LABEL:
            continue
        expert = Adapter.objects.select_related("current").filter(name=label, kind=Adapter.Kind.EXPERT).first()
        if expert is None or expert.current is None:
            raise InputError(f"{router} may answer {label!r}, but there is no expert {label!r} with a version.")
        experts.append(expert.current)
    with transaction.atomic():
        stack, created = Stack.objects.get_or_create(
            digest=stack_spec(router, experts).digest, defaults={"router": router}
        )
        if created:
            stack.experts.set(experts)
    return stack


def move_alias(name: str, stack: Stack) -> Alias:
    """Point the alias at `stack`, in one statement."""
    alias, _ = Alias.objects.update_or_create(name=name, defaults={"stack": stack})
    return alias


def switch_champion(switch: Switch, *, reason: str = "", user: User | None = None) -> Promotion:
    """Make the switch and record it, with why and by whom; InputError if `previous` is the champion no more.

    The comparison and the switch are one statement, so that of two that switch at once one does.
    """
    try:
        with transaction.atomic():
            if switch.previous is None:
                Alias.objects.create(name=Alias.Name.CHAMPION, stack=switch.stack)
            elif not Alias.objects.filter(name=Alias.Name.CHAMPION, stack=switch.previous).update(
                stack=switch.stack, moved_at=timezone.now()
            ):
                raise IntegrityError
            Alias.objects.filter(name=Alias.Name.CHALLENGER, stack=switch.stack).delete()
            return Promotion.objects.create(
                stack=switch.stack,
                previous=switch.previous,
                evaluation=switch.evaluation,
                reason=reason,
                is_rollback=switch.is_rollback,
                created_by=user,
            )
    except IntegrityError:
        raise InputError("Another stack went live meanwhile: look at that one first.") from None


def record_evaluation(
    version: AdapterVersion,
    *,
    stack: Stack | None,
    dataset: RoutingDataset | SourceDataset,
    report: dict[str, Any],
    folder: Path,
) -> Evaluation:
    """Record what `evaluate` measured; a repeated call for the same folder changes nothing."""
    headline = report["headline"]
    evaluation, _ = Evaluation.objects.get_or_create(
        path=str(folder),
        defaults={
            "version": version,
            "stack": stack,
            "dataset_name": dataset.name,
            "dataset_digest": dataset.digest,
            "samples": headline["n"],
            "accuracy": headline["value"],
            "ci_low": headline["ci_low"],
            "ci_high": headline["ci_high"],
            "report": report,
        },
    )
    return evaluation
