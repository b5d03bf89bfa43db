"""What can be seen of a database at work: figures, spans, logs, statements and lazy loads in loops."""
