"""What a run found, for people: tables, figures, one HTML page, and tables for the terminal."""
