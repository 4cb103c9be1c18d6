#!/usr/bin/env bash
# One task of a Slurm array processes one shard. Submitted by submit.sh.
#SBATCH --job-name=cardiometa-segment
#SBATCH --cpus-per-task=8
#SBATCH --mem=6G
#SBATCH --time=12:00:00
#SBATCH --requeue
# A minute before the time limit: finished scans are kept, and the requeued task resumes.
#SBATCH --signal=TERM@60
set -uo pipefail

: "${COHORT:?the cohort.toml or folder}" "${OUT:?the folder for the results, on shared storage}"

# shellcheck disable=SC2086
srun cardiometa segment "$COHORT" --out "$OUT" \
  --shard "$SLURM_ARRAY_TASK_ID/${SHARDS:-$SLURM_ARRAY_TASK_COUNT}" \
  --workers "${SLURM_CPUS_PER_TASK:-1}" ${CARDIOMETA_OPTIONS:-}
code=$?

# 4 means: done, but some scans failed or need review; Slurm need not treat that as a failure.
[ "$code" -eq 4 ] && exit 0
exit "$code"
