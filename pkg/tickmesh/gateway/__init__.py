"""The outside's view: a read-only replica of the event stream, REST, WebSocket; commands leave as messages."""
