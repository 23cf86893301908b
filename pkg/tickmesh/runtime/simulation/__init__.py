"""The seeded simulation: the real services on a virtual clock, with a bus, a network and a venue that fail."""
