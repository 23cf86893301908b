"""The pure exchange of simvenue: requests and times in, records and events out, no I/O and no clock."""
