"""What can be seen of a database at work: figures, spans and logs."""
