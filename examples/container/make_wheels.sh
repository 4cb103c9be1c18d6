#!/usr/bin/env bash
# On a machine with a network, of the container's Python version and processor: the folder wheels/
# from which the container is then built without one.
#   bash make_wheels.sh [EXTRA,… [SOURCE]]     SOURCE: a checkout or wheel of cardiometa
set -euo pipefail
cd "$(dirname "$0")"
extras="${1:-segment,tables,dicom}"
# torch's CPU build is several GB smaller; leave the line out where the container gets a GPU.
export PIP_EXTRA_INDEX_URL="${PIP_EXTRA_INDEX_URL:-https://download.pytorch.org/whl/cpu}"
rm -rf wheels
torch=()
[[ ",$extras," == *,segment,* ]] && torch=(torch==2.13.0)
python3 -m pip wheel --wheel-dir wheels "${torch[@]}" "${2:-../..}[$extras]"
du -sh wheels
