"""Applications that do the same work with other packages, each the way its documentation shows."""
