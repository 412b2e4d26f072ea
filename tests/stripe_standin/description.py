"""Stripe's API description, and a transport that holds every request and answer against it."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import stripe
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DESCRIPTION = Path(__file__).parent.parent / "data/stripe-openapi-reduced.json"
URI = "urn:stripe"
OK = 200

type Json = dict[str, Any]


@cache
def description() -> Json:
    content: Json = json.loads(DESCRIPTION.read_text())
    return content


@cache
def _registry() -> Registry[Any]:
    resource = Resource.from_contents(description(), default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(URI, resource)
    return registry


@cache
def _validator(pointer: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"{URI}#{pointer}"}, registry=_registry())


def refuse_undescribed(pointer: str, content: object) -> None:
    """Fail unless content fits the schema at a JSON pointer of the description."""
    errors = [
        f"{error.json_path}: {error.message}" for error in _validator(pointer).iter_errors(content)
    ]
    assert not errors, (pointer, errors, content)


def _escaped(path: str) -> str:
    return path.replace("~", "~0").replace("/", "~1")


@cache
def described_path(method: str, path: str) -> str:
    """The description's template of a path, such as `/v1/customers/{customer}`."""
    steps = path.split("/")
    for template, operations in description()["paths"].items():
        parts = template.split("/")
        fits = len(parts) == len(steps) and all(map(_fits, parts, steps))
        if method in operations and fits:
            return str(template)
    raise AssertionError(f"{method} {path} is not described")


def _fits(part: str, step: str) -> bool:
    return part == step or part.startswith("{")


# --- form values, typed by the schema that awaits them --------------------------------------------


def form_tree(text: str) -> Json:
    tree: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        *outer, last = name.replace("]", "").split("[")
        place = tree
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = value
    return tree


def typed(value: Any, schema: Json) -> Any:
    """A form value as JSON would have it."""
    if "anyOf" in schema:
        return _typed_by_any(value, schema["anyOf"])
    kind = schema.get("type")
    if kind == "array" and isinstance(value, dict):
        return [typed(value[key], schema["items"]) for key in sorted(value, key=int)]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        other = schema.get("additionalProperties")
        other = other if isinstance(other, dict) else {}
        return {key: typed(one, properties.get(key, other)) for key, one in value.items()}
    if kind == "integer" and value.lstrip("-").isdigit():
        return int(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    return value


def _typed_by_any(value: Any, schemas: list[Json]) -> Any:
    for schema in schemas:
        candidate = typed(value, schema)
        if Draft202012Validator(schema, registry=_registry()).is_valid(candidate):
            return candidate
    return value


def check_request(method: str, url: str, form: str | None) -> None:
    parts = urlsplit(url)
    template = described_path(method, parts.path)
    operation = description()["paths"][template][method]
    pointer = f"/paths/{_escaped(template)}/{method}"
    if method == "post":
        if "requestBody" not in operation:
            assert form in (None, "", "{}"), f"POST {template} has no parameters"
            return
        [(media, content)] = operation["requestBody"]["content"].items()
        pointer += f"/requestBody/content/{_escaped(media)}/schema"
        if media == "application/json":
            refuse_undescribed(pointer, json.loads(form or "{}"))
        else:
            refuse_undescribed(pointer, typed(form_tree(form or ""), content["schema"]))
        return
    named = {
        p["name"]: index for index, p in enumerate(operation["parameters"]) if p["in"] == "query"
    }
    for name, value in form_tree(parts.query).items():
        if name == "page" and template.startswith("/v2/"):
            continue  # the answer's own next_page_url holds it, whatever it is
        assert name in named, f"{method} {template} has no parameter {name}"
        schema = operation["parameters"][named[name]]["schema"]
        refuse_undescribed(f"{pointer}/parameters/{named[name]}/schema", typed(value, schema))


def check_answer(method: str, url: str, status: int, body: bytes) -> None:
    template = described_path(method, urlsplit(url).path)
    responses = description()["paths"][template][method]["responses"]
    name = "200" if status == OK else "default"
    media = next(iter(responses[name]["content"]))
    pointer = (
        f"/paths/{_escaped(template)}/{method}/responses/{name}/content/{_escaped(media)}/schema"
    )
    content = json.loads(body)
    if content.get("deleted") and method == "get":
        pointer = f"/components/schemas/deleted_{content['object']}"
    refuse_undescribed(pointer, content)


class CheckedClient(stripe.RequestsClient):
    """The SDK's own client; requests and answers that Stripe does not describe fail the test.

    `lenient` lets wrong requests out, to see how they are refused.
    """

    def __init__(self) -> None:
        super().__init__(timeout=10)
        self.lenient = False
        self.headers: Mapping[str, str] = {}
        self.status = 0

    def request(  # type: ignore[override]  # the SDK's own subclass differs just so
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: str | None = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        if not self.lenient:
            check_request(method, url, post_data)
        body, self.status, self.headers = super().request(method, url, headers, post_data)
        if not self.lenient:
            check_answer(method, url, self.status, body)
        return body, self.status, self.headers
