"""The web page: one file, hand-written, no build step and nothing from outside."""
