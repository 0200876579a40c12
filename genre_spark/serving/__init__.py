"""A page on loopback where a song is dropped: what genre it is, when, and what it looks like."""
