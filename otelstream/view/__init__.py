"""``otelstream view``: an OTLP receiver, a SQLite store and one page. Stands beside the instrumented service."""
