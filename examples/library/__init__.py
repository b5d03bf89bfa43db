"""A library with an admin."""
