"""How messages travel: NATS with JetStream, the shared-memory ring, and a bus in memory for tests."""
