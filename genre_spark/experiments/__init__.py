"""Models x splits x seeds through one protocol: validation steers, test is read once at the end."""
