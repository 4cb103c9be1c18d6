#!/usr/bin/env bash
# Tables and report, once every shard is done. Submitted by submit.sh.
#SBATCH --job-name=cardiometa-merge
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --time=04:00:00
set -uo pipefail

: "${OUT:?the folder that the shards wrote to}"

cardiometa merge "$OUT"
code=$?
[ "$code" -eq 4 ] && exit 0
exit "$code"
