"""Profiles as values: made by a profiler in the process, written in the formats that existing viewers read."""
