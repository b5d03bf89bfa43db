class Author(TimestampMixin, Base):
    """Somebody who writes books."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
