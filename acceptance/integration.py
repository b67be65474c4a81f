"""Whether the gateway is in its place: image, GPU, mounts, health, names, restarts, Open WebUI.

Those that look at the container run on its host, as the user whose service it is.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from acceptance.check import Failed, check, expect
from acceptance.gateway import Gateway
from llmux.config import Config

IMAGE = "localhost/llmux"
CONTAINER = "llmux"
SERVICE = "llmux.service"

_COMMAND_S = 120.0
_RESTART_S = 300.0


def judge_mounts(mounts: Sequence[Mapping[str, Any]]) -> str:
    """Raises Failed unless configuration and models can be read alone. mounts: as `podman inspect` tells them."""
    writable = {str(mount["Destination"]): bool(mount["RW"]) for mount in mounts}
    expect("/data" in writable, "nothing is mounted at /data")
    expect(not writable["/data"], "/data, with configuration and models, can be written")
    expect(writable.get("/data/state"), "/data/state is not mounted, or cannot be written")
    return "/data read-only, /data/state writable"


def judge_ports(published: str) -> str:
    """Raises Failed unless the gateway is published on the loopback alone. published: what `podman port` prints."""
    addresses = [line.rpartition(" ")[2] for line in published.splitlines() if line.strip()]
    expect(addresses, "it is not published")
    others = [address for address in addresses if not address.startswith(("127.0.0.1:", "[::1]:"))]
    expect(not others, f"it is published on {', '.join(others)}")
    return ", ".join(addresses)


def judge_health(answer: httpx.Response) -> str:
    """Raises Failed unless this is GET /health as it should be, without a key."""
    expect(answer.status_code == 200, f"GET /health without a key is answered with {answer.status_code}")
    health = answer.json()
    expect(health["status"] == "ok", f"its status is {health['status']!r}")
    for model, facts in health["loaded_models"].items():
        expect(facts["type"] in ("llm", "asr", "tts") and facts["vram_gb"] >= 0, f"it says of {model}: {facts}")
    return f"{len(health['loaded_models'])} loaded, {health['available_vram_gb']} GB available"


def judge_names(listed: Sequence[Mapping[str, Any]], config: Config | None) -> str:
    """Raises Failed unless these are the names of the configuration, and llmux's own. listed: as /v1/models does."""
    names = [str(model["id"]) for model in listed]
    expect(names, "no model is listed")
    if config is not None:
        missing = [name for name in config.virtual if name not in names]
        expect(not missing, f"missing: {', '.join(missing)}")
        known = {entry["model_name"] for entry in config.litellm["model_list"]}
        added = [name for name in names if name not in known]
        expect(not added, f"listed, and not in the configuration: {', '.join(added)}")
    strange = [str(model["id"]) for model in listed if model["owned_by"] != "llmux" or model["object"] != "model"]
    expect(not strange, f"not owned by llmux: {', '.join(strange)}")
    return f"{len(names)} names"


def judge_restart(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Raises Failed unless it is another run of the unit, and starts at boot. Both: what `systemctl show` says."""
    expect(after["ActiveState"] == "active", f"the unit is {after['ActiveState']} after its restart")
    expect(before["InvocationID"] != after["InvocationID"], "the unit was not restarted")
    starts = after["UnitFileState"] in ("enabled", "generated")  # a quadlet's unit is generated
    expect(starts, f"the unit does not start at boot: it is {after['UnitFileState'] or 'not installed'}")
    return f"{after['ActiveState']}, {after['UnitFileState']}"


def judge_webui(models: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Raises Failed unless Open WebUI offers all that chats. models: as its /api/models lists them"""
    offered = {str(model["id"]) for model in models}
    missing = [name for name in names if name not in offered]
    expect(not missing, f"Open WebUI does not list {', '.join(missing)}")
    return f"{len(names)} of its {len(offered)} models"


def podman_here(gateway: Gateway) -> str | None:
    """A need."""
    return None if shutil.which("podman") else "podman is not here; run this on the host, as the service's user"


def service_here(gateway: Gateway) -> str | None:
    """A need."""
    if shutil.which("systemctl") is None:
        return "systemctl is not here; run this on the host, as the service's user"
    try:
        loaded = _told("systemctl", "--user", "show", SERVICE, "--property=LoadState", "--value").strip()
    except Failed:
        loaded = "no systemd of this user"
    return None if loaded == "loaded" else f"this user has no {SERVICE} ({loaded}); deploy/install.sh makes it"


def webui_given(gateway: Gateway) -> str | None:
    """A need."""
    return None if gateway.webui else "no Open WebUI is named: give --open-webui, and its API key in OPEN_WEBUI_KEY"


def _told(*command: str) -> str:
    """What a command prints. Raises Failed where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"`{' '.join(command)}` does not run: {error}") from None
    if done.returncode:
        raise Failed(f"`{' '.join(command)}` fails: {(done.stderr or done.stdout).strip()[:200]}")
    return done.stdout


@check("has its image", needs=(podman_here,))
def has_image(gateway: Gateway) -> str:
    return _told("podman", "image", "inspect", "--format", "{{.Id}}", IMAGE).strip()[:12]


@check("sees the GPU inside its container", needs=(podman_here,))
def sees_gpu(gateway: Gateway) -> str:
    return _told(
        "podman", "exec", CONTAINER, "nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"
    ).strip()


@check("has models and configuration mounted read-only", needs=(podman_here,))
def mounts(gateway: Gateway) -> str:
    said = judge_mounts(json.loads(_told("podman", "inspect", "--format", "{{json .Mounts}}", CONTAINER)))
    _told("podman", "exec", CONTAINER, "test", "-r", "/data/litellm_config.yaml", "-a", "-d", "/data/models")
    return said


@check("is published on the loopback alone", needs=(podman_here,))
def ports(gateway: Gateway) -> str:
    return judge_ports(_told("podman", "port", CONTAINER))


@check("tells its health without a key")
def health(gateway: Gateway) -> str:
    return judge_health(gateway.stranger.get("/health"))


@check("lists its models")
def names(gateway: Gateway) -> str:
    return judge_names(gateway.listed(), gateway.config)


@check("comes back after a restart of its service", needs=(service_here,))
def restarts(gateway: Gateway) -> str:
    before = _unit()
    _told("systemctl", "--user", "restart", SERVICE)
    begun_s = time.monotonic()
    while not _is_up(gateway):
        expect(time.monotonic() - begun_s < _RESTART_S, f"it does not answer {_RESTART_S:.0f} s after its restart")
        time.sleep(0.5)
    return f"{judge_restart(before, _unit())}, healthy after {time.monotonic() - begun_s:.0f} s"


def _unit() -> dict[str, str]:
    said = _told("systemctl", "--user", "show", SERVICE, "--property=ActiveState,InvocationID,UnitFileState")
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def _is_up(gateway: Gateway) -> bool:
    try:
        return gateway.stranger.get("/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@check("is listed in Open WebUI", needs=(webui_given,))
def in_webui(gateway: Gateway) -> str:
    assert gateway.webui is not None
    address, key = gateway.webui
    answer = httpx.get(
        f"{address.rstrip('/')}/api/models", headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
    )
    return judge_webui(answer.raise_for_status().json()["data"], gateway.names("llm"))


CHECKS = (has_image, sees_gpu, mounts, ports, health, names, restarts, in_webui)
