"""What can be asked of the memories of a finished run."""
