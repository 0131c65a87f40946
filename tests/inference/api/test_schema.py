"""What the OpenAPI schema says of the API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from datasets_app.formats.pictures import check_image

Operation = dict[str, Any]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    generator: Any = SchemaGenerator()
    made: dict[str, Any] = generator.get_schema(request=None, public=True)
    return made


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def component(schema: dict[str, Any], name: str) -> dict[str, Any]:
    properties: dict[str, Any] = schema["components"]["schemas"][name]["properties"]
    return properties


def test_it_is_valid_and_complete(schema: dict[str, Any]) -> None:
    validate_schema(schema)  # type: ignore[no-untyped-call]
    assert not GENERATOR_STATS


def test_each_operation_names_its_refusals_and_no_default(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        refusals = {int(status) for status in operation["responses"] if status != "default" and int(status) >= 400}
        assert "default" not in operation["responses"]
        assert {400, 401, 406, 429} <= refusals, (path, method)
        assert (404 in refusals) == ("{" in path), (path, method)
        assert ({403, 413, 507} <= refusals) == (method != "get"), (path, method)
        assert (415 in refusals) == ("requestBody" in operation), (path, method)
        for status in refusals:
            content = operation["responses"][str(status)]["content"]
            assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}


def test_what_asks_the_engine_may_be_refused_by_it(schema: dict[str, Any]) -> None:
    asking = {path for path, _, operation in operations(schema) if "503" in operation["responses"]}
    assert asking == {
        "/api/v1/infer/",
        "/api/v1/route/",
        "/api/v1/engine/",
        "/api/v1/roll_back/",
        "/api/v1/adapters/{name}/promote/",
    }


@pytest.mark.parametrize("form", ["InferFormRequest", "RouteFormRequest"])
def test_a_form_takes_the_screenshot_as_a_file(schema: dict[str, Any], form: str) -> None:
    assert component(schema, form)["image"]["format"] == "binary"


@pytest.mark.parametrize("body", ["InferRequest", "RouteRequest"])
def test_a_body_takes_the_screenshot_as_base64_of_which_there_is_an_example(schema: dict[str, Any], body: str) -> None:
    image = component(schema, body)["image"]
    assert image["format"] == "byte"
    assert check_image(base64.b64decode(image["example"])) == ("PNG", 4, 4)


def test_what_must_not_be_empty_says_so(schema: dict[str, Any]) -> None:
    for body, name in (("InferRequest", "prompt"), ("RegisterSourceRequest", "path"), ("LaunchRequest", "name")):
        assert component(schema, body)[name]["minLength"] == 1


def test_paging_says_its_bounds(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        bounds = {
            parameter["name"]: parameter["schema"].get("minimum")
            for parameter in operation.get("parameters", [])
            if parameter["name"] in ("limit", "offset")
        }
        assert bounds in ({}, {"limit": 1, "offset": 0}), (path, method)
