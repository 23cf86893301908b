"""The whole-loop tests need every service; until the last one has landed they are not collected."""

collect_ignore = ["test_up.py"]
