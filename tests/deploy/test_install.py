"""deploy/install.sh on a machine of stand-ins, which note how they were called."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "deploy" / "install.sh"
DRY_RUN = Path(__file__).parent / "dry-run.txt"

STAND_INS = {
    "podman": """\
case "$1 ${2-}" in
  "version "*) echo "$PODMAN_VERSION" ;;
  "secret inspect") [ -e "$HOME/secret" ] ;;
  "secret create") cat > "$HOME/secret" ;;
esac
""",
    "systemctl": 'case "$*" in *disable*) [ -e "$HOME/.config/systemd/user/llmux.service" ] ;; esac',
    "loginctl": "echo yes",
    "nvidia-ctk": "echo nvidia.com/gpu=all",
    "catatonit": "",
    "id": 'case "$1" in -u) echo 1000 ;; *) echo somebody ;; esac',
}


@dataclass(frozen=True)
class Machine:
    """home: of its user; podman: its version"""

    home: Path
    programs: Path
    podman: str = "4.9.3"

    def install(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(INSTALL), *arguments],
            env={
                "HOME": str(self.home),
                "PATH": f"{self.programs}:/usr/bin:/bin",
                "PODMAN_VERSION": self.podman,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (code, ""), done.stdout + done.stderr
        return done.stdout.replace(str(ROOT), "<checkout>")

    def tree(self) -> list[str]:
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.name != "calls")

    def calls(self) -> list[str]:
        return (self.home / "calls").read_text().replace(str(ROOT), "<checkout>").splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "home").mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in STAND_INS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "$HOME/calls"\n{does}\n')
        program.chmod(0o755)
    return Machine(tmp_path / "home", programs)


INSTALLED = [
    ".config",
    ".config/containers",
    ".config/containers/systemd",
    ".config/containers/systemd/llmux.container",
    ".local",
    ".local/share",
    ".local/share/llmux",
    ".local/share/llmux/litellm_config.yaml",
    ".local/share/llmux/models",
    ".local/share/llmux/state",
    "secret",
]


def test_a_dry_run_says_everything_and_changes_nothing(machine: Machine) -> None:
    assert machine.install("--dry-run") == DRY_RUN.read_text()
    assert machine.tree() == []


def test_it_installs_what_it_says_and_twice_is_as_once(machine: Machine) -> None:
    machine.install()
    assert machine.tree() == INSTALLED
    key = (machine.home / "secret").read_text()
    assert key.startswith("sk-")
    assert len(key) == 67
    config = machine.home / ".local/share/llmux/litellm_config.yaml"
    config.write_text("# mine")
    machine.install()
    assert machine.tree() == INSTALLED
    assert (machine.home / "secret").read_text() == key
    assert config.read_text() == "# mine"
    assert "systemctl --user restart llmux.service" in machine.calls()
    assert key not in "".join(machine.calls())


def test_a_podman_without_quadlets_gets_a_plain_unit(machine: Machine) -> None:
    older = Machine(machine.home, machine.programs, podman="4.3.1")
    older.install()
    assert ".config/systemd/user/llmux.service" in older.tree()
    assert ".config/containers/systemd/llmux.container" not in older.tree()
    assert "systemctl --user enable llmux.service" in older.calls()
    machine.install()  # after an upgrade of podman
    assert ".config/systemd/user/llmux.service" not in machine.tree()


@pytest.mark.parametrize("podman", ["4.3.1", "4.4.0", "5.4.2"])
def test_uninstalling_leaves_models_state_and_key(machine: Machine, podman: str) -> None:
    machine = Machine(machine.home, machine.programs, podman=podman)
    machine.install()
    machine.install("--uninstall")
    left = machine.tree()
    assert not [path for path in left if path.endswith((".container", ".service"))]
    assert {"secret", ".local/share/llmux/models", ".local/share/llmux/state"} <= set(left)
    machine.install("--uninstall")


@pytest.mark.parametrize(
    ("program", "does", "named"),
    [
        ("podman", None, "podman: sudo apt-get install podman"),
        ("podman", "exit 1", "ids below this user"),
        ("podman", "echo 3.4.4", "Podman 4.3 or newer"),
        ("nvidia-ctk", None, "nvidia-container-toolkit"),
        ("nvidia-ctk", "", "the GPU's CDI description"),
        ("loginctl", "echo no", "lingering"),
        ("systemctl", "exit 1", "a systemd of the user"),
        ("id", "echo 0", "a user of its own"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_done(
    machine: Machine, program: str, does: str | None, named: str
) -> None:
    path = machine.programs / program
    if does is None:
        path.unlink()
        if shutil.which(program, path="/usr/bin:/bin"):
            only = machine.programs / "only"
            only.mkdir()
            for tool in ("bash", "env", "dirname", "grep", "sort", "head", "sed", "cat"):
                (only / tool).symlink_to(shutil.which(tool) or "")
            path = only
    else:
        path.write_text(f"#!/bin/sh\n{does}\n")
    where = f"{machine.programs}:{path}" if path.is_dir() else f"{machine.programs}:/usr/bin:/bin"
    done = subprocess.run(
        [str(INSTALL)],
        env={"HOME": str(machine.home), "PATH": where, "PODMAN_VERSION": "5.0.0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"  - {named}" in done.stdout
    assert machine.tree() == []


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").glob("*.sh")), ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    assert os.access(script, os.X_OK)
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""


def test_the_weights_command_runs_in_the_image_with_the_models_writable(machine: Machine) -> None:
    done = subprocess.run(
        [str(ROOT / "deploy" / "weights.sh"), "fetch", "qwen3.5-4b"],
        env={"HOME": str(machine.home), "PATH": f"{machine.programs}:/usr/bin:/bin", "HF_TOKEN": "hf_secret"},
        timeout=60,
    )
    assert done.returncode == 0
    (call,) = machine.calls()
    assert call.endswith("localhost/llmux weights fetch --config /data/litellm_config.yaml qwen3.5-4b")
    assert f"--volume {machine.home}/.local/share/llmux:/data " in call
    assert "hf_secret" not in call
