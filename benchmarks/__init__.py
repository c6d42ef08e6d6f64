"""Side-by-side measurements; a ledger, never a timed test."""
