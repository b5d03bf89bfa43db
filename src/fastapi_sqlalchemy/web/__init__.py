"""The package's side that faces HTTP: middleware, dependencies, lifespan, problems and health."""
