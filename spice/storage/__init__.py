"""Files, shards and stages: whole or not there at all, keyed by content."""
