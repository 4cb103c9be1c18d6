#!/usr/bin/env bash
# One task of a Slurm array does one shard of the scans. Given to sbatch by submit.sh.
#SBATCH --job-name=cardiometa-segment
#SBATCH --cpus-per-task=8
#SBATCH --mem=6G
#SBATCH --time=12:00:00
#SBATCH --requeue
# A minute before the time is over: what is finished stays, and the same task goes on.
#SBATCH --signal=TERM@60
set -uo pipefail

: "${COHORT:?the cohort.toml or folder}" "${OUT:?the folder for the results, on shared storage}"

# shellcheck disable=SC2086
srun cardiometa segment "$COHORT" --out "$OUT" \
  --shard "$SLURM_ARRAY_TASK_ID/${SHARDS:-$SLURM_ARRAY_TASK_COUNT}" \
  --workers "${SLURM_CPUS_PER_TASK:-1}" ${CARDIOMETA_OPTIONS:-}
code=$?

# 4 means: done, but some scans failed or need review. That is for the report, not for Slurm.
[ "$code" -eq 4 ] && exit 0
exit "$code"
