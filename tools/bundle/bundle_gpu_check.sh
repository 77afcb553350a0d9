#!/usr/bin/env bash
# gpu-check of this bundle, wherever it lies.
exec "$(dirname "${BASH_SOURCE[0]}")/gpu/gpu_check.sh" "$@"
