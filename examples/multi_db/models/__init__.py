"""Users in one database, posts in another."""
