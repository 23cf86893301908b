"""Five strategies that show the interface; real, small, and no advice."""
