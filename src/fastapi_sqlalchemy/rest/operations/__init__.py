"""The database work of the routes, written once as plain functions over a session."""
