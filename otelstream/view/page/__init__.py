"""The page of ``otelstream view``, on NiceGUI."""
