"""What strict type checkers have to see; checked by mypy and pyright, never run."""
