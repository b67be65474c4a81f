#!/usr/bin/env bash
# `llmux weights ...` in the image that deploy/install.sh built, with the models folder writable: weights.sh fetch qwen3.5-4b
# HF_TOKEN is handed on, and an existing Hugging Face cache is used.
set -euo pipefail

data=$HOME/.local/share/llmux
cache=${HF_HUB_CACHE:-${HF_HOME:-$HOME/.cache/huggingface}/hub}
options=(--rm '--userns=keep-id:uid=1000,gid=1000' --security-opt=label=disable --env HF_TOKEN --volume "$data:/data")
if [ -t 1 ]; then options+=(--interactive --tty); fi
if [ -d "$cache" ]; then options+=(--volume "$cache:/cache:ro" --env HF_HUB_CACHE=/cache); fi
command=${1:?one of list, fetch, verify, remove, lock}
shift
exec podman run "${options[@]}" localhost/llmux weights "$command" --config /data/litellm_config.yaml "$@"
