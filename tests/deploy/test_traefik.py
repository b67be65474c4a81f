"""Against SchemaStore's schemas for Traefik 2 (Apache-2.0), as the package schemastore 0.2.3 carries them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

TRAEFIK = Path(__file__).parents[2] / "deploy" / "traefik"
HERE = Path(__file__).parent


def rendered(environment: Mapping[str, str]) -> dict[str, Any]:
    """The dynamic file as Traefik reads it: its template knows one construct."""
    text = (TRAEFIK / "dynamic.yaml").read_text()
    filled = re.sub(
        r'{{ env "(\w+)" \| default "([^"]*)" }}', lambda found: environment.get(found[1]) or found[2], text
    )
    assert "{{" not in re.sub(r"#.*", "", filled)
    return dict(yaml.safe_load(filled))


def strict(schema: Any) -> Any:
    """The same schema, which refuses keys that it does not know: Traefik does."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {**closed, **{key: strict(value) for key, value in schema.items()}}


def check(data: Any, schema: str) -> None:
    jsonschema.validate(data, strict(json.loads((HERE / schema).read_text())))


GIVEN = {
    "LLMUX_HOST": "llmux.example.org",
    "LLMUX_ENTRYPOINT": "lan",
    "LLMUX_PRIORITY": "7",
    "LLMUX_BACKEND": "http://10.0.0.2:8081",
    "LLMUX_ALSO": " || PathPrefix(`/ui`)",
}


@pytest.mark.parametrize("environment", [{}, GIVEN])
def test_the_dynamic_file_is_what_traefik_takes(environment: dict[str, str]) -> None:
    check(rendered(environment), "traefik-v2-file-provider.schema.json")


def test_the_static_file_is_what_traefik_takes() -> None:
    check(yaml.safe_load((TRAEFIK / "static.yaml").read_text()), "traefik-v2.schema.json")


def test_the_schema_refuses_what_traefik_would() -> None:
    wrong = rendered({})
    wrong["http"]["routers"]["llmux"]["entrypoint"] = "websecure"
    with pytest.raises(jsonschema.ValidationError):
        check(wrong, "traefik-v2-file-provider.schema.json")


def test_only_v1_and_health_are_let_through_unless_more_is_asked() -> None:
    def rule(environment: Mapping[str, str]) -> str:
        return str(rendered(environment)["http"]["routers"]["llmux"]["rule"])

    assert rule({}) == "Host(`llmux.localhost`) && (Path(`/health`) || PathPrefix(`/v1/`))"
    assert rule(GIVEN).endswith("(Path(`/health`) || PathPrefix(`/v1/`) || PathPrefix(`/ui`))")


def test_entry_point_priority_and_backend_are_the_environments() -> None:
    http = rendered(GIVEN)["http"]
    router, service = http["routers"]["llmux"], http["services"]["llmux"]
    assert (router["entryPoints"], router["priority"]) == (["lan"], 7)
    assert service["loadBalancer"]["servers"] == [{"url": "http://10.0.0.2:8081"}]


def test_no_time_out_ends_a_long_answer() -> None:
    static = yaml.safe_load((TRAEFIK / "static.yaml").read_text())
    assert static["entryPoints"]["websecure"]["transport"]["respondingTimeouts"]["writeTimeout"] == 0
    assert static["serversTransport"]["forwardingTimeouts"]["responseHeaderTimeout"] == 0
