"""An example; see the README beside it."""
