"""simvenue: a simulated exchange that speaks the venue's wire protocol."""
