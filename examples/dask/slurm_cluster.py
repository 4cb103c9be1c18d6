"""A Dask cluster out of Slurm jobs (dask-jobqueue); runs until it is stopped.

``python slurm_cluster.py 32 > address`` on a login node, then
``cardiometa segment cohort.toml --out OUT --scheduler $(cat address)``.
PBSCluster, LSFCluster, SGECluster and OARCluster are used in the same way.
"""

import signal
import sys

from dask_jobqueue import SLURMCluster
from distributed import Security

# The certificates of tls.yaml; without them anyone on the network can run code as you.
cluster = SLURMCluster(
    cores=8,
    processes=8,  # one worker, one scan at a time, for each core
    memory="12GB",
    walltime="12:00:00",
    protocol="tls://",
    security=Security(require_encryption=True),
    # Workers leave before Slurm ends them; their scans go to others.
    worker_extra_args=["--lifetime", "700m", "--lifetime-stagger", "10m"],
)
cluster.adapt(minimum=1, maximum=8 * int(sys.argv[1]))
print(cluster.scheduler_address, flush=True)
signal.pause()
