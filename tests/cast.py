"""The same small cast in every test: rows as the platform would have recorded them, without files."""

from __future__ import annotations

import hashlib
import io

from django.contrib.auth.models import User
from PIL import Image
from rest_framework.test import APIClient

from adapters.models import Adapter, AdapterVersion, Alias, BaseModel, Evaluation, Stack
from adapters.selectors import stack_spec
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset
from workers.models import Run
from workers.states import Status

EXPERTS = ("calendar", "claim-window")
COUNTS = {side: dict.fromkeys(EXPERTS, number) for side, number in (("train", 80), ("val", 10), ("eval", 10))}


def digest(word: str) -> str:
    """A content hash that is made up but looks right."""
    return "sha256:" + hashlib.sha256(word.encode()).hexdigest()


def png(width: int = 64, height: int = 48) -> bytes:
    """A small screenshot."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(out, "PNG")
    return out.getvalue()


def make_client(*, staff: bool = False) -> APIClient:
    """A client of somebody who may read and infer; of staff, with every permission, who may do the rest."""
    client = APIClient()
    user = User.objects.create_superuser("staff") if staff else User.objects.create_user("reader")
    client.force_authenticate(user)
    return client


def make_base() -> BaseModel:
    """The base that all adapters of the cast share."""
    base, _ = BaseModel.objects.get_or_create(name="tiny-base", fingerprint=digest("base"), path="/nowhere")
    return base


def make_source(name: str) -> SourceDataset:
    """A registered source dataset."""
    source, _ = SourceDataset.objects.get_or_create(
        name=name, defaults={"path": f"/nowhere/{name}", "digest": digest(name), "rows": 120}
    )
    return source


def make_adapter(name: str, kind: str = Adapter.Kind.EXPERT) -> Adapter:
    """An adapter without files; an expert has a source of its own name."""
    source = make_source(name) if kind == Adapter.Kind.EXPERT else None
    return Adapter.objects.create(name=name, kind=kind, base=make_base(), source=source)


def make_version(adapter: Adapter, labels: tuple[str, ...] = ()) -> AdapterVersion:
    """The next version of `adapter`, now its current one."""
    number = adapter.versions.count() + 1
    version = AdapterVersion.objects.create(
        adapter=adapter,
        number=number,
        digest=digest(f"{adapter.name} {number}"),
        size=4_000_000,
        card={"kind": adapter.kind, "labels": list(labels)},
        facts={"rank": 16, "alpha": 32, "target_modules": ["q_proj", "v_proj"]},
    )
    adapter.current = version
    adapter.save()
    return version


def make_experts() -> list[AdapterVersion]:
    """`calendar` v1 and `claim-window` v1."""
    return [make_version(make_adapter(name)) for name in EXPERTS]


def make_router() -> AdapterVersion:
    """`router` v1, which may name the experts of the cast."""
    return make_version(make_adapter("router", Adapter.Kind.ROUTER), labels=EXPERTS)


def make_stack(router: AdapterVersion, experts: list[AdapterVersion]) -> Stack:
    """Their stack."""
    stack = Stack.objects.create(router=router, digest=stack_spec(router, experts).digest)
    stack.experts.set(experts)
    return stack


def make_champion() -> Stack:
    """Experts, router, and their stack, which serves."""
    experts = make_experts()
    stack = make_stack(make_router(), experts)
    Alias.objects.create(name=Alias.Name.CHAMPION, stack=stack)
    return stack


def make_routing_dataset(name: str = "routing_20260101_120000") -> RoutingDataset:
    """A routing dataset of the cast's experts."""
    dataset = RoutingDataset.objects.create(
        name=name,
        path=f"/nowhere/{name}",
        digest=digest(name),
        metadata={"seed": 0, "counts": COUNTS, "labels": {"calendar": 0}},
    )
    dataset.sources.set([make_source(expert) for expert in EXPERTS])
    return dataset


def make_prepared(dataset: RoutingDataset) -> PreparedDataset:
    """What training reads of `dataset`."""
    return PreparedDataset.objects.create(
        routing_dataset=dataset,
        base=make_base().fingerprint,
        path=f"/nowhere/{dataset.name}-prepared",
        digest=digest("prepared"),
        stats={"train": 160},
    )


def make_evaluation(version: AdapterVersion, path: str = "/nowhere/evaluation") -> Evaluation:
    """38 of 40 right: of one class all, of the other all but two."""
    samples = [
        {"id": f"{label}_{n}", "label": label, "correct": label == EXPERTS[0] or n < 18}
        for label in EXPERTS for n in range(20)
    ]  # fmt: skip
    return Evaluation.objects.create(
        version=version,
        dataset_name="routing_20260101_120000",
        dataset_digest=digest("routing"),
        samples=40,
        accuracy=0.95,
        ci_low=0.835,
        ci_high=0.986,
        report={"headline": {"n": 40, "value": 0.95, "ci_low": 0.835, "ci_high": 0.986}, "samples": samples},
        path=path,
    )


def make_run(name: str = "routing_20260101_120000", status: str = Status.QUEUED, **fields: object) -> Run:
    """A run that nobody has launched."""
    return Run.objects.create(
        **{"name": name, "kind": Run.Kind.PREPROCESS, "backend": "local", "status": status, **fields}
    )
