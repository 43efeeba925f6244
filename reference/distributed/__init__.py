"""Several processes: who they are (`world`), starting them (`launch`), sharded checkpoints (`shards`), one text split
among them (`sequence`)."""
