"""A tick feed over real gRPC with leaks to choose from: what ``otelstream demo`` runs and shows.

``service.py``, ``aio_service.py``, ``client.py`` and ``aio_client.py`` are an application like any other: nothing in
them knows of otelstream. ``process.py`` starts one of them in a process of its own, next to a reporter; ``show.py``
starts and shows two such processes.
"""
