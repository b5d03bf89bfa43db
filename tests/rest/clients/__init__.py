"""Real clients of the dialects: react-admin's data providers and Refine's."""
