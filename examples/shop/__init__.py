"""A shop: items for everybody, orders that belong to somebody, by generated routes."""
