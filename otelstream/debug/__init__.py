"""The debug address: streams, leaks and metrics of this process, over HTTP."""
