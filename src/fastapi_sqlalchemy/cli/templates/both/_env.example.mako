# Copy this file to .env; the environment goes before it.

# SQLite in a file, or PostgreSQL: postgresql://user:password@localhost/${database}
DATABASE_URL=sqlite:///app.db
