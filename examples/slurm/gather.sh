#!/usr/bin/env bash
# The tables and the page, once every shard is done. Given to sbatch by submit.sh.
#SBATCH --job-name=cardiometa-gather
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --time=04:00:00
set -uo pipefail

: "${OUT:?the folder that the shards wrote to}"

cardiometa gather "$OUT"
code=$?
[ "$code" -eq 4 ] && exit 0
exit "$code"
