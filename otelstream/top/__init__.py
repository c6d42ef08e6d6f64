"""What ``otelstream top`` shows: where it comes from, and the tables. Nothing here asks over HTTP or writes."""
