"""Which services there are, and how they run: hosted one by one, or all on one machine under a supervisor."""
