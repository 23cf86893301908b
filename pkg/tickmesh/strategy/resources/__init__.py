"""The Strategy resource that runs when none is given."""
