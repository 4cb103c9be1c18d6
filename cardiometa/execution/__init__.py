"""Many scans: the record of each scan (resume), one machine's pipeline, the runs of commands."""
