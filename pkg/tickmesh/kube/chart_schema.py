"""values.schema.json of the tickmesh chart, written once here: every value, strict, and every configuration key.

In: the settings' own declarations. Out: a JSON schema (draft 7, what Helm checks before it renders). An unknown value
is refused by its name; what depends on another value is refused by the templates, in words.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from tickmesh.settings import Settings

Schema = dict[str, Any]

_QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
_NAME = {"type": "string", "pattern": r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_PORTS = {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}, "minItems": 1}
_URL = {"type": "string", "pattern": r"^$|^[a-z]+://[^\s]+$"}
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
_OWNED = frozenset(
    # Sections of one machine or of the chart's own business; keys in other sections that the chart sets by itself.
    {"local", "simvenue.port", "gateway.port", "gateway.token", "nats", "postgres", "redis", "venue.name",
     "venue.protocol", "venue.rest_url", "venue.stream_url", "venue.symbols", "venue.account", "venue.api_key",
     "venue.api_secret", "observe.host", "observe.instance", "observe.peer_url", "execution.state_dir", "operator"}
)  # fmt: skip


def schema() -> Schema:
    """The whole of it."""
    root = _group(
        image=_group(
            repository={"type": "string", "minLength": 1, "pattern": r"^[a-z0-9][a-z0-9._:/-]*$"},
            tag={"type": "string", "pattern": r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$", "not": {"const": "latest"}},
            digest={"type": "string", "pattern": r"^(sha256:[0-9a-f]{64})?$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            pullSecrets={"type": "array", "items": _NAME},
        ),
        crds={"type": "object", "properties": {"enabled": _FLAG, "keep": _FLAG, "global": {"type": "object"}},
              "additionalProperties": False},
        infra={"type": "object", "properties": {"enabled": _FLAG}},
        nats=_group(url=_URL, existingSecret=_NAME, credentialsSecret=_NAME,
                    credentialsKey={"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"},
                    replicas={"enum": [1, 3, 5]}, monitorUrl=_URL, syncCheck={"enum": ["warn", "require", "off"]}),
        postgres=_group(existingSecret=_NAME, secretKey=_TEXT),
        redis=_group(existingSecret=_NAME, secretKey=_TEXT),
        venue=_group(name={"type": "string", "pattern": "^[a-z0-9_-]+$"}, protocol={"enum": ["binance_usdm"]},
                     restUrl=_URL, streamUrl=_URL, symbols={"type": "array", "minItems": 1, "uniqueItems": True,
                                                            "items": {"type": "string", "pattern": "^[A-Z0-9_]+$"}}),
        accounts={"type": "array", "minItems": 1, "items": _account()},
        config=_config(),
        dataPlane=_data_plane(),
        networkPolicies=_network_policies(),
        **{name: _service(name) for name in ("feed", "execution", "account", "risk", "recorder", "gateway",
                                             "strategies", "operator", "simvenue")},
    )  # fmt: skip
    root["properties"]["global"] = {"type": "object"}
    root["$schema"] = "http://json-schema.org/draft-07/schema#"
    root["title"] = "Values of the tickmesh chart"
    return root


def _group(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        found["required"] = list(required)
    return found


def _account() -> Schema:
    name = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$"}
    return _group(("name",), name=name, existingSecret=_NAME, stateClaim=_NAME)


def _amounts() -> Schema:
    return _group(("cpu", "memory"), cpu=_QUANTITY, memory=_QUANTITY)


def _service(name: str) -> Schema:
    properties: Schema = {
        "terminationGracePeriodSeconds": {"type": "integer", "minimum": 5, "maximum": 600},
        "resources": _group(("requests", "limits"), requests=_amounts(), limits=_amounts()),
        "priorityClassName": _NAME,
        "nodeSelector": _LABELS,
        "tolerations": {"type": "array", "items": {"type": "object"}},
    }
    if name != "strategies":
        most = {"feed": 2, "simvenue": 1, "execution": 2, "account": 2, "risk": 2}.get(name, 32)
        surge = {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+%$"}]}
        properties |= {
            "replicas": {"type": "integer", "minimum": 1, "maximum": most},
            "rollout": _group(("maxSurge", "maxUnavailable"), maxSurge=surge, maxUnavailable=surge),
            "podAnnotations": _LABELS,
            "preStopSleepSeconds": {"type": "integer", "minimum": 0, "maximum": 60},
            "startupFailureThreshold": {"type": "integer", "minimum": 5, "maximum": 600},
        }
    several = {"type": "integer", "minimum": 1, "maximum": 32}
    match name:
        case "gateway":
            properties["existingSecret"] = _NAME
            properties["service"] = _group(type={"enum": ["ClusterIP", "LoadBalancer", "NodePort"]})
            percent = {"type": "integer", "minimum": 10, "maximum": 100}
            properties["autoscaling"] = _group(
                enabled=_FLAG, minReplicas=several, maxReplicas=several, targetCpuPercent=percent
            )
        case "recorder":
            properties["autoscaling"] = _group(
                enabled=_FLAG, minReplicas=several, maxReplicas=several, natsAccount=_TEXT, consumers=_LABELS,
                lagThreshold={"type": "integer", "minimum": 1},
            )  # fmt: skip
        case "operator":
            properties |= {"enabled": _FLAG, "webhook": _group(enabled=_FLAG)}
        case "simvenue":
            properties |= {"enabled": _FLAG, "stateClaim": _NAME}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _data_plane() -> Schema:
    priority = _group(create=_FLAG, name=_NAME, value={"type": "integer", "minimum": 0, "maximum": 1_000_000_000})
    return _group(
        sharedMemory=_FLAG, hostNetwork=_FLAG, colocate=_FLAG, nodeSelector=_LABELS,
        tolerations={"type": "array", "items": {"type": "object"}}, priorityClass=priority,
    )  # fmt: skip


def _network_policies() -> Schema:
    peer = _group(podSelector={"type": "object"}, namespaceSelector={"type": "object"}, ipBlock={"type": "object"})
    peers = {"type": "array", "items": {**peer, "minProperties": 1}}
    there = _group(to=peers, ports=_PORTS)
    return _group(
        enabled=_FLAG, dns=_group(to=peers), nats=there, postgres=there, redis=there, venue=there, apiServer=there,
        gatewayFrom=peers, metricsFrom=peers,
    )  # fmt: skip


def _config() -> Schema:
    """Every key of the settings that is not the chart's own business, with its range."""
    sections: Schema = {}
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if section in _OWNED or not isinstance(model, type) or not issubclass(model, BaseModel):
            continue
        made = model.model_json_schema(mode="validation")
        keys = {
            name: _key(found)
            for name, found in made["properties"].items()
            if name != "admin_port" and f"{section}.{name}" not in _OWNED
        }
        if keys:
            sections[section] = _group(**keys)
    return _group(**sections)


def _key(found: Schema) -> Schema:
    kept = ("type", "enum", "items", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern",
            "description", "anyOf")  # fmt: skip
    return {name: _bare(value) for name, value in found.items() if name in kept}


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        # A Decimal is a number or its text; the pattern that pydantic adds uses syntax that Helm does not know.
        return [{k: v for k, v in item.items() if k != "pattern"} if isinstance(item, dict) else item for item in value]
    return value
