"""What a run tells other programs while it works: fields of logs, metrics, lineage events."""
