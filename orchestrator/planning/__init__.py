"""From a sweep to its searches, and what they will cost."""
