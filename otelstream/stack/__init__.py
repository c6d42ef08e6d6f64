"""Jaeger, Prometheus and Grafana in Docker: where their files are, how they are started, and who is in their way."""
