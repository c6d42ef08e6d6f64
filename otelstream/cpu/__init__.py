"""Where the time goes: CPU and wall time of all threads and asyncio tasks, by method and stream, for some seconds."""
