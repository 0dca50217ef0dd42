"""The live page: serves reports and the list of runs on loopback, anew whenever rows land. Reads runs, never writes."""
