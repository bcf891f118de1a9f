"""Validates docs/openapi.yaml: valid OpenAPI 3.1, every reference resolves, every field has a
description, every example matches its schema. Prints the document as JSON.

With `--is SCHEMA`, reads JSON values from standard input, one a line, and validates them instead."""

import json
import sys
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.yaml"
ROOT = "urn:document"

document = yaml.safe_load(DOCUMENT.read_text())
registry = Registry().with_resource(ROOT, Resource(contents=document, specification=DRAFT202012))


def found(pointer: str):
    node = document
    for part in pointer.removeprefix("#/").split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def validator(pointer: str):
    return Draft202012Validator({"$ref": f"{ROOT}#{pointer}"}, registry=registry)


def violations(pointer: str, value) -> list[str]:
    faults = validator(pointer).iter_errors(value)
    return [f"{pointer}: {fault.message} at {fault.json_path}" for fault in faults]


def escaped(part) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def walk(node, pointer=""):
    yield pointer, node
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, below in pairs:
        if key not in ("value", "example", "enum", "const"):
            yield from walk(below, f"{pointer}/{escaped(key)}")


def described(schema) -> bool:
    if "description" in schema:
        return True
    return "$ref" in schema and described(found(schema["$ref"]))


def faults() -> list[str]:
    validate(document)
    seen = []
    for pointer, node in walk(document):
        if not isinstance(node, dict):
            continue
        if "$ref" in node and not pointer.endswith("/properties"):
            try:
                found(node["$ref"])
            except KeyError:
                seen.append(f"{pointer}: {node['$ref']} does not resolve")
                continue
        if "schema" in node:
            schema = pointer + "/schema"
            for name, example in node.get("examples", {}).items():
                value = found(example["$ref"])["value"] if "$ref" in example else example["value"]
                seen += [f"{name}: {fault}" for fault in violations(schema, value)]
            if "example" in node:
                seen += violations(schema, node["example"])
        elif "examples" in node and isinstance(node["examples"], list):
            for value in node["examples"]:
                seen += violations(pointer, value)
        # Conditions repeat names of fields; a description is required only where a field is declared.
        declares = "additionalProperties" in node or "required" in node or node.get("type") == "object"
        if declares and "description" in node and isinstance(node.get("properties"), dict):
            for name, schema in node["properties"].items():
                if not described(schema):
                    seen.append(f"{pointer}: {name} has no description")
    used = {node["$ref"] for _, node in walk(document) if isinstance(node, dict) and isinstance(node.get("$ref"), str)}
    for kind, parts in document["components"].items():
        for name in parts:
            if kind != "securitySchemes" and f"#/components/{kind}/{name}" not in used:
                seen.append(f"#/components/{kind}/{name} is not used")
    return seen


if len(sys.argv) == 3 and sys.argv[1] == "--is":
    wrong = [f for line in sys.stdin for f in violations(f"/components/schemas/{sys.argv[2]}", json.loads(line))]
else:
    wrong = faults()
    print(json.dumps(document))
if wrong:
    sys.exit("\n".join(wrong))
