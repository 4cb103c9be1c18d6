#!/usr/bin/env bash
# bash submit.sh COHORT OUT SHARDS [AT ONCE]
#   bash submit.sh /shared/remodelling/cohort.toml /shared/remodelling/out 64 32
# Run it again after a failure: finished shards take seconds.
set -euo pipefail

export COHORT="${1:?cohort.toml or folder}" OUT="${2:?folder for the results}"
export SHARDS="${3:?number of shards}"
here="$(cd "$(dirname "$0")" && pwd)"

# What is wrong with tables, ids, options or OUT is reported here, before 64 jobs meet it.
# (`cardiometa check` reads every header too: do that once, earlier.)
# shellcheck disable=SC2086
cardiometa segment "$COHORT" --out "$OUT" --shard "1/$SHARDS" --dry-run ${CARDIOMETA_OPTIONS:-}

array=$(sbatch --parsable --export=ALL --array="1-$SHARDS%${4:-$SHARDS}" "$here/segment_array.sh")
merge=$(sbatch --parsable --export=ALL --dependency="afterok:$array" "$here/merge.sh")
echo "shards: job $array, tables: job $merge"
