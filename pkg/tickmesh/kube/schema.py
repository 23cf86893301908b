"""Small words for structural schemas, so that a resource reads like a table and not like JSON Schema.

Every function returns a fresh dict in the form that apiextensions.k8s.io/v1 takes.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

MONEY = r"^[0-9]{1,18}(\.[0-9]{1,18})?$"
NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


def text(description: str, **more: Any) -> Schema:
    """A string; ``max_length`` bounds it, as CEL's cost estimate wants."""
    more.setdefault("maxLength", 253)
    return {"type": "string", "description": description, **more}


def choice(description: str, *values: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, "enum": list(values), **more}


def flag(description: str, **more: Any) -> Schema:
    return {"type": "boolean", "description": description, **more}


def integer(description: str, least: int, most: int, **more: Any) -> Schema:
    return {"type": "integer", "format": "int64", "description": description, "minimum": least, "maximum": most, **more}


def decimal(description: str, **more: Any) -> Schema:
    """An exact decimal, written as a string ("0.25") so that no YAML parser makes a float of it."""
    return {"type": "string", "description": description, "pattern": MONEY, "maxLength": 40, **more}


def signed_decimal(description: str) -> Schema:
    return {"type": "string", "description": description, "maxLength": 64}


def moment(description: str) -> Schema:
    return {"type": "string", "format": "date-time", "description": description}


def many(description: str, items: Schema, most: int, **more: Any) -> Schema:
    return {"type": "array", "description": description, "items": items, "maxItems": most, **more}


def group(
    description: str,
    fields: dict[str, Schema],
    *,
    required: tuple[str, ...] = (),
    rules: tuple[dict[str, str], ...] = (),
) -> Schema:
    """An object; ``rules`` are CEL rules over it."""
    schema: Schema = {"type": "object", "description": description, "properties": fields}
    if rules:
        schema["x-kubernetes-validations"] = list(rules)
    if required:
        schema["required"] = list(required)
    return schema


def resource(description: str, spec: Schema, status: Schema, *, rules: tuple[dict[str, str], ...] = ()) -> Schema:
    """The whole object: what every resource has, and its own spec and status."""
    fields = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
        "status": status,
    }
    return group(description, fields, required=("spec",), rules=rules)


def anything(description: str, **more: Any) -> Schema:
    """An object that this schema does not look into (checked by somebody else, who is named)."""
    return {"type": "object", "description": description, "x-kubernetes-preserve-unknown-fields": True, **more}


def rule(expression: str, message: str, field: str = "") -> dict[str, str]:
    """A CEL rule. ``field`` puts the error where the person has to look."""
    made = {"rule": expression, "message": message}
    return made | ({"fieldPath": field} if field else {})


def conditions() -> Schema:
    """metav1.Condition, as a map by type."""
    item = group(
        "One condition, as metav1.Condition.",
        {
            "type": text("What it is about."),
            "status": choice("Whether it holds.", "True", "False", "Unknown"),
            "reason": text("One word, for machines.", maxLength=1024),
            "message": text("One sentence, for people.", maxLength=32768),
            "lastTransitionTime": moment("When status changed last."),
            "observedGeneration": integer("Generation it was computed from.", 0, 2**53),
        },
        required=("type", "status", "reason", "message", "lastTransitionTime"),
    )
    listed = many("State of the resource in standard form.", item, 16)
    return listed | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


def column(name: str, path: str, kind: str = "string", *, wide: bool = False, description: str = "") -> dict[str, Any]:
    """One column of ``kubectl get``; ``wide`` only with -o wide."""
    made: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if wide:
        made["priority"] = 1
    return made | ({"description": description} if description else {})


def definition(
    kind: str,
    plural: str,
    short: tuple[str, ...],
    schema: Schema,
    columns: list[dict[str, Any]],
    *,
    scale: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A CustomResourceDefinition of group tickmesh.io, version v1alpha1, namespaced, with a status subresource."""
    subresources: dict[str, Any] = {"status": {}}
    if scale:
        subresources["scale"] = scale
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.tickmesh.io", "labels": {"app.kubernetes.io/part-of": "tickmesh"}},
        "spec": {
            "group": "tickmesh.io",
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": list(short),
                "categories": ["tickmesh", "all"],
            },
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                    "additionalPrinterColumns": columns,
                }
            ],
        },
    }
