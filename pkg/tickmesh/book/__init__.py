"""A venue's book, kept right: when a diff may be applied, when there is a gap, when the book is stale."""
