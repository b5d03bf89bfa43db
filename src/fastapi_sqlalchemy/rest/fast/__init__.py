"""The short way of plain reads: compiled SQL on the driver's own cursor, where nobody can tell the difference."""
