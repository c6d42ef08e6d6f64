"""The picture: memory above, streams below, on one time axis. Values of ``model.py`` to ECharts options; pure."""
