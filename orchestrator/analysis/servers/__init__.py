"""What `capsweep export --format` puts beside the memories for a server: how to use them."""
