"""The migrations lead to the tables that the models describe."""

from fastapi_sqlalchemy.migrations import Migrations


def test_the_models_and_the_migrated_database_agree(migrations: Migrations) -> None:
    assert [item.sentences for item in migrations.check() if not item.is_clean] == []
