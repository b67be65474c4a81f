"""The verdicts, and what is run on the host, against stand-ins of podman and systemctl that say what real ones do."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from acceptance import integration
from acceptance.check import Case, Failed, Result, conclude
from acceptance.gateway import Gateway
from llmux.config import load_config
from tests.gateway import ROOT

DEMO = load_config(ROOT / "demo" / "litellm_config.yaml")
MOUNTS = [{"Destination": "/data", "RW": False}, {"Destination": "/data/state", "RW": True}]
UNIT = {"ActiveState": "active", "InvocationID": "1", "UnitFileState": "generated"}


def test_models_and_configuration_are_read_only() -> None:
    assert integration.judge_mounts(MOUNTS)
    for mounts in (
        [],
        MOUNTS[:1],
        [{"Destination": "/data", "RW": True}, MOUNTS[1]],
        [MOUNTS[0], {**MOUNTS[1], "RW": False}],
    ):
        with pytest.raises(Failed):
            integration.judge_mounts(mounts)


def test_only_the_loopback_is_published() -> None:
    assert integration.judge_ports("8081/tcp -> 127.0.0.1:8081\n") == "127.0.0.1:8081"
    for ports in ("", "8081/tcp -> 0.0.0.0:8081\n", "8081/tcp -> 127.0.0.1:8081\n8082/tcp -> 0.0.0.0:8082\n"):
        with pytest.raises(Failed):
            integration.judge_ports(ports)


def test_health_says_what_is_loaded_to_everybody() -> None:
    loaded = {"whisper": {"type": "asr", "vram_gb": 4.1}}
    health = {"status": "ok", "loaded_models": loaded, "available_vram_gb": 11.9}
    assert integration.judge_health(httpx.Response(200, json=health)) == "1 loaded, 11.9 GB available"
    for status, body in [(401, health), (200, {**health, "status": "degraded"})]:
        with pytest.raises(Failed):
            integration.judge_health(httpx.Response(status, json=body))


def listed(*names: str, **more: str) -> list[dict[str, Any]]:
    return [{"id": name, "object": "model", "owned_by": "llmux", **more} for name in names]


def test_the_names_are_those_of_the_configuration() -> None:
    names = tuple(DEMO.virtual)
    assert integration.judge_names(listed(*names), DEMO) == "3 names"
    assert integration.judge_names(listed("any"), None) == "1 names"
    for wrong, why in [
        (listed(*names[:2]), "missing: Hibari"),
        (listed(*names, "Stowaway"), "not in the configuration: Stowaway"),
        (listed(*names, owned_by="openai"), "not owned by llmux"),
        ([], "no model is listed"),
    ]:
        with pytest.raises(Failed, match=why):
            integration.judge_names(wrong, DEMO)


def test_a_restart_is_another_run_of_a_unit_that_starts_at_boot() -> None:
    assert integration.judge_restart(UNIT, {**UNIT, "InvocationID": "2"})
    for after in (
        UNIT,
        {**UNIT, "InvocationID": "2", "ActiveState": "failed"},
        {**UNIT, "InvocationID": "2", "UnitFileState": "disabled"},
    ):
        with pytest.raises(Failed):
            integration.judge_restart(UNIT, after)


def test_open_webui_offers_what_chats() -> None:
    assert integration.judge_webui([{"id": "Chat"}, {"id": "arena"}], ["Chat"]) == "1 of its 2 models"
    with pytest.raises(Failed, match="does not list Other"):
        integration.judge_webui([{"id": "Chat"}], ["Chat", "Other"])


PODMAN = f"""\
case "$*" in
  "image inspect "*) echo 0123456789abcdef ;;
  "exec llmux nvidia-smi "*) echo "NVIDIA GeForce RTX 5070 Ti, 16303 MiB" ;;
  "exec llmux test "*) ;;
  inspect*) echo '{json.dumps(MOUNTS)}' ;;
  port*) echo "8081/tcp -> 127.0.0.1:8081" ;;
  *) echo "unknown: $*" >&2; exit 125 ;;
esac
"""

SYSTEMCTL = """\
case "$*" in
  *restart*) touch "$0.restarted" ;;
  *LoadState*) echo loaded ;;
  *) id=1; if [ -e "$0.restarted" ]; then id=2; fi
     printf 'ActiveState=active\\nInvocationID=%s\\nUnitFileState=generated\\n' $id ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with podman and the service; its programs may be written anew."""
    for name, script in [("podman", PODMAN), ("systemctl", SYSTEMCTL)]:
        write(tmp_path / name, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)


def results() -> dict[str, Result]:
    gateway = Gateway("http://gateway", "sk-key", config=DEMO)
    answers = httpx.MockTransport(lambda request: httpx.Response(200, json={"status": "ok"}))
    gateway.stranger = httpx.Client(base_url="http://gateway", transport=answers)
    host = [
        each for each in integration.CHECKS if set(each.needs) & {integration.podman_here, integration.service_here}
    ]
    cases = [
        Case("integration", each, skip=next(filter(None, (need(gateway) for need in each.needs)), "")) for each in host
    ]
    return {case.check.name: conclude(case, gateway) for case in cases}


def test_a_host_as_it_should_be_passes(host: Path) -> None:
    assert {name: result.verdict for name, result in results().items()} == {
        "has its image": "pass",
        "sees the GPU inside its container": "pass",
        "has models and configuration mounted read-only": "pass",
        "is published on the loopback alone": "pass",
        "comes back after a restart of its service": "pass",
    }


def test_what_podman_says_is_why_it_fails(host: Path) -> None:
    write(host / "podman", 'echo "no such container" >&2; exit 125')
    found = results()["sees the GPU inside its container"]
    assert found.verdict == "fail"
    assert found.detail.endswith("fails: no such container")


def test_off_the_host_it_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for result in results().values():
        assert result.verdict == "skipped"
        assert "run this on the host" in result.detail


def test_a_service_that_is_not_installed_is_not_restarted(host: Path) -> None:
    write(host / "systemctl", "echo not-found")
    found = results()["comes back after a restart of its service"]
    assert (found.verdict, "deploy/install.sh" in found.detail) == ("skipped", True)
