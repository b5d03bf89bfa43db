"""Reading the structure of a database that already exists: what is there, and how its columns are served."""
