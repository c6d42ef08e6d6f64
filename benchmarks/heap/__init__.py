"""What heap profilers cost: otelstream's, tracemalloc, memray and ddtrace, on allocations alone and on gRPC."""
