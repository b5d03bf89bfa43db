FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 ${"\\"}
    DATABASE_URL=sqlite:////srv/data/app.db
WORKDIR /srv

COPY pyproject.toml README.md alembic.ini ./
COPY app ./app
RUN pip install --no-cache-dir .
COPY migrations ./migrations

RUN useradd --system --no-create-home app ${"\\"}
    && install --directory --owner=app /srv/data
USER app
VOLUME /srv/data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s ${"\\"}
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
CMD ["sh", "-c", "fastapi-sqlalchemy db upgrade && exec uvicorn app.main:app --host 0.0.0.0 --port 8000"]
