"""The two forms of the service: valid each, and the same container."""

import configparser
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUADLET = ROOT / "deploy" / "quadlet" / "llmux.container"
UNIT = ROOT / "deploy" / "systemd" / "llmux.service"

OPTION_OF: Mapping[str, str] = {
    "ContainerName": "--name={}",
    "PublishPort": "--publish={}",
    "AddDevice": "--device={}",
    "SecurityLabelDisable": "--security-opt=label=disable",
    "NoNewPrivileges": "--security-opt=no-new-privileges",
    "DropCapability": "--cap-drop={}",
    "ReadOnly": "--read-only",
    "RunInit": "--init",
    "PodmanArgs": "{}",
    "Volume": "--volume={}",
    "Image": "{}",
}
"""podman-systemd.unit(5) of Podman 4.4: what each key means to podman run."""

BY_QUADLET = {"--cgroups", "--sdnotify", "--detach", "--rm", "--replace", "--cidfile"}
"""What the generator adds by itself."""


def sections(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Keys in order; continued lines joined, comments left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if line.startswith("["):
            keys = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            keys.append((key, value.strip()))
    return found


def test_the_plain_unit_is_a_valid_one(tmp_path: Path) -> None:
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\n")
    podman.chmod(0o755)
    unit = tmp_path / "llmux.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/podman", str(podman)))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_quadlet_asks_only_what_podman_4_4_knows() -> None:
    assert [key for key, _ in sections(QUADLET)["Container"] if key not in OPTION_OF] == []


def test_both_forms_run_the_same_container() -> None:
    options: list[str] = []
    for key, value in sections(QUADLET)["Container"]:
        options += shlex.split(OPTION_OF[key].format(value))
    (start,) = [value for key, value in sections(UNIT)["Service"] if key == "ExecStart"]
    plain = [word for word in shlex.split(start)[2:] if word.split("=")[0] not in BY_QUADLET]
    assert sorted(plain) == sorted(options)


@pytest.mark.parametrize("name", ["Unit", "Install"])
def test_both_forms_are_ordered_and_enabled_alike(name: str) -> None:
    by_generator = {"RequiresMountsFor"}
    plain = [pair for pair in sections(UNIT)[name] if pair[0] not in by_generator]
    assert plain == sections(QUADLET)[name]


@pytest.mark.parametrize("path", [QUADLET, UNIT])
def test_a_failure_starts_it_again_and_a_stop_lets_models_unload(path: Path) -> None:
    service = dict(sections(path)["Service"])
    assert service["Restart"] == "on-failure"
    found = re.search(r"--stop-timeout=(\d+)", path.read_text())
    assert found is not None
    stop_s = 20  # limits.stop_s as shipped
    assert stop_s < int(found[1]) < int(service["TimeoutStopSec"])


@pytest.mark.parametrize("path", [QUADLET, UNIT])
def test_the_gateway_is_reached_through_loopback_alone(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"(?:PublishPort|--publish)=(\S+)", text) == ["127.0.0.1:8081:8081"]
    assert "LLMUX_MASTER_KEY" in text
    assert "sk-" not in text


def test_a_quadlet_is_what_systemd_calls_a_unit() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(QUADLET)
    assert parser.sections() == ["Unit", "Container", "Service", "Install"]
