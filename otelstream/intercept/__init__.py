"""Where gRPC calls are seen: at the codec, and where grpc says that a call ended."""
