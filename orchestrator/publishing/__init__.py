"""Runs on the Hugging Face hub: what is pushed, how it is pushed, and how it comes back."""
