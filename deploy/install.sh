#!/usr/bin/env bash
# Sets llmux up as a rootless service of the current user: image, folders, key, unit. Safe to run again.
#
#   deploy/install.sh              check what is missing, then build, install and start
#   deploy/install.sh --dry-run    say what would be done, and change nothing
#   deploy/install.sh --uninstall  stop it and take the unit and the image away; models, state and key stay
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=$HOME/.local/share/llmux
quadlets=${XDG_CONFIG_HOME:-$HOME/.config}/containers/systemd
units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
image=localhost/llmux
secret=llmux-master-key
dry_run=false
uninstall=false

for argument in "$@"; do
  case $argument in
    --dry-run) dry_run=true ;;
    --uninstall) uninstall=true ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit ;;
    *) echo "unknown argument: $argument (see --help)" >&2; exit 2 ;;
  esac
done

say() { printf '%s\n' "$*"; }

act() {
  if $dry_run; then say "would run: ${*//$HOME/\~}"; else "$@"; fi
}

# Whether Podman is this version or a newer one.
podman_has() {
  local version
  version=$(podman version --format '{{.Client.Version}}')
  [ "$(printf '%s\n%s\n' "$1" "$version" | sort --version-sort | head -n 1)" = "$1" ]
}

# What is missing, a line each: what, and how to get it.
missing() {
  if [ "$(id -u)" = 0 ]; then
    say "a user of its own: run this as the user whose service it is to be, not as root"
  fi
  if ! command -v podman >/dev/null; then
    say "podman: sudo apt-get install podman (Debian, Ubuntu), sudo dnf install podman (Fedora)"
  elif ! podman unshare true 2>/dev/null; then
    say "ids below this user: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un), then podman system migrate"
  elif ! podman_has 4.3; then
    say "Podman 4.3 or newer: an older one cannot make you the user inside (keep-id:uid=...)"
  fi
  if ! command -v catatonit >/dev/null && [ ! -x /usr/libexec/podman/catatonit ] && [ ! -x /usr/lib/podman/catatonit ]; then
    say "catatonit, podman's init: sudo apt-get install catatonit, sudo dnf install catatonit"
  fi
  if ! command -v nvidia-ctk >/dev/null; then
    say "nvidia-container-toolkit, which shows the GPU to containers: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit"
  elif ! nvidia-ctk cdi list 2>/dev/null | grep -q 'nvidia.com/gpu=all'; then
    say "the GPU's CDI description: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (again after each driver update)"
  fi
  if ! systemctl --user show-environment >/dev/null 2>&1; then
    say "a systemd of the user: log in directly (ssh, console), not by su or sudo"
  elif [ "$(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null)" != yes ]; then
    say "lingering, so that the service starts at boot: sudo loginctl enable-linger $(id -un)"
  fi
}

if $uninstall; then
  act systemctl --user disable --now llmux.service 2>/dev/null || act systemctl --user stop llmux.service 2>/dev/null || true
  act rm -f "$quadlets/llmux.container" "$units/llmux.service"
  act systemctl --user daemon-reload
  act podman rmi --force --ignore "$image"
  say "Models and state are still in ~/.local/share/llmux, and the key is the podman secret $secret."
  exit
fi

lacking=$(missing)
if [ -n "$lacking" ]; then
  say "Missing:"
  while read -r line; do say "  - $line"; done <<<"$lacking"
  if ! $dry_run; then exit 1; fi
fi

act podman build --format docker --file "$root/deploy/Containerfile" --tag "$image" "$root"
act mkdir -p "$data/models" "$data/state"
if [ ! -e "$data/litellm_config.yaml" ]; then
  act cp "$root/litellm_config.yaml" "$data/litellm_config.yaml"
fi
if ! podman secret inspect "$secret" >/dev/null 2>&1; then
  if $dry_run; then
    say "would make the podman secret $secret from 32 random bytes"
  else
    printf 'sk-%s' "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" | podman secret create "$secret" - >/dev/null
  fi
fi
if command -v podman >/dev/null && podman_has 4.4; then # which knows quadlets
  act mkdir -p "$quadlets"
  act cp "$root/deploy/quadlet/llmux.container" "$quadlets/llmux.container"
  act rm -f "$units/llmux.service"
  act systemctl --user daemon-reload
  act systemctl --user restart llmux.service # the quadlet itself says that it starts at boot
else
  act mkdir -p "$units"
  act cp "$root/deploy/systemd/llmux.service" "$units/llmux.service"
  act systemctl --user daemon-reload
  act systemctl --user enable llmux.service
  act systemctl --user restart llmux.service
fi
$dry_run || say "The gateway is at http://127.0.0.1:8081 (journalctl --user --unit llmux). Next: deploy/weights.sh fetch"
