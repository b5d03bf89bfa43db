"""The conventions of other clients that a router can speak beside its own: translations at its edge."""
