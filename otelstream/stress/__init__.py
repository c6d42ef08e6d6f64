"""The load generator behind ``otelstream stress``: drives a service over gRPC and says what that did to it."""
