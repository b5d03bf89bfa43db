[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "${name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["fastapi-sqlalchemy[postgres,serve]>=${version}"]

[dependency-groups]
dev = ["httpx2>=2", "mypy>=1.15", "pytest>=8.3", "ruff>=0.9"]

[tool.hatch.build.targets.wheel]
packages = ["app"]

[tool.fastapi-sqlalchemy]
db = "app.database:db"
app = "app.main:app"

[tool.fastapi]
entrypoint = "app.main:app"

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
addopts = ["--import-mode=importlib", "--strict-markers", "-ra"]

[tool.ruff]
line-length = 100
extend-exclude = ["migrations/versions"]

[tool.ruff.lint]
extend-select = ["ASYNC", "B", "I", "N", "PT", "RUF", "S", "SIM", "UP"]

[tool.ruff.lint.per-file-ignores]
"tests/**" = ["S101"]

[tool.mypy]
strict = true
files = ["app", "tests"]
