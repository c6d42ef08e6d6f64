"""A client that holds one stream open and calls as often as a line of stdin says.

Usage: ``python -m tests.integration.view.caller PORT``.
"""

from __future__ import annotations

import sys

import grpc

from tests.services import invoke


def main(port: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        held = invoke(channel, "Hold")(b"x")
        next(held)
        for line in sys.stdin:
            for _ in range(int(line)):
                invoke(channel, "Unary")(b"x")
            print("called", flush=True)  # noqa: T201  # that is how it talks to the test
        held.cancel()


if __name__ == "__main__":
    main(*sys.argv[1:])
