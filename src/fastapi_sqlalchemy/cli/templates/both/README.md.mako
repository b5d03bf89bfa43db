# ${name}

A FastAPI application on SQLAlchemy: SQLite while you develop, PostgreSQL by its URL.

${"##"} Start

```console
$ python3 -m venv .venv && . .venv/bin/activate
$ pip install --upgrade "pip>=25.1"
$ pip install -e . --group dev
$ fastapi-sqlalchemy db upgrade
$ uvicorn app.main:app --reload
```

http://127.0.0.1:8000/docs shows the routes.
`.env.example` lists the settings: copy it to `.env`, or set them in the environment.

${"##"} Work on it

| to | run |
|---|---|
| run the tests | `pytest`, on another database with `TEST_DATABASE_URL` |
| check code and types | `ruff check . && ruff format --check . && mypy` |
| write a migration after a change of the models | `fastapi-sqlalchemy db revision --autogenerate -m "what it does"` |
| see what differs between models and database | `fastapi-sqlalchemy db check` |
| look at the routes | `fastapi-sqlalchemy routes` |
| look at the rows | `fastapi-sqlalchemy shell` |
| find out what is wrong with the database | `fastapi-sqlalchemy doctor` |

${"##"} Where things are

% if layout == "flat":
| file | holds |
|---|---|
| `app/main.py` | the application |
| `app/settings.py` | what comes from the environment |
| `app/database.py` | the database, and the session that a route asks for |
| `app/models.py` | the tables |
| `app/schemas.py` | what is sent and answered |
| `app/routers.py` | the routes: authors are generated, books are written by hand |
% else:
| file | holds |
|---|---|
| `app/main.py` | the application |
| `app/settings.py` | what comes from the environment |
| `app/database.py` | the database, and the session that a route asks for |
| `app/authors/` | a domain whose routes are generated |
| `app/books/` | a domain whose routes are written by hand: `models.py`, `schemas.py`, `router.py` |
% endif
| `migrations/versions/` | the steps that brought the tables where they are |

A request is one transaction: it is committed before the first byte of its answer leaves, and rolled back by an
exception or an answer of 400 or more.
The application does not start on a database that a migration is missing on.

${"##"} Deploy

```console
$ docker build -t ${image} .
$ docker run -p 8000:8000 -e DATABASE_URL=postgresql://user:password@host/database ${image}
```

The container applies the migrations that wait, then serves; of several that start at once, one does the work.
`/health/live` and `/health/ready` tell the platform how it is.
