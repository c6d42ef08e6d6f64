"""A program on ``aetcd`` (asyncio), as its users write them: nothing of otelstream in it.

Usage: ``python with_aetcd.py PORT``. Prints one JSON line per result, the same in every run against an etcd that holds
nothing; then keeps its watch open until there is a line on stdin. Makes the same calls as ``with_etcd3.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
from typing import Any

import aetcd


def say(**result: Any) -> None:
    sys.stdout.write(f"{json.dumps(result)}\n")
    sys.stdout.flush()


async def main() -> None:
    async with aetcd.Client(host="127.0.0.1", port=int(sys.argv[1])) as client:
        await keys(client)
        events = await watch(client)
        await lease(client)
        await snapshot(client)
        say(watching=True)
        await asyncio.to_thread(sys.stdin.readline)
        await client.put(b"watch/last", b"3")
        say(event=said(await anext(events)))
        await client.delete(b"watch/last")
        say(event=said(await anext(events)))
    say(closed=True)


async def keys(client: Any) -> None:
    await client.put(b"key", b"value")
    say(get=(await client.get(b"key")).value.decode())
    say(deleted=[await client.delete(b"key") is not None, await client.delete(b"key") is not None])
    say(get=await client.get(b"key"))


async def watch(client: Any) -> Any:
    """Events of one watch, which is then cancelled; those of another on the same stream, which stays open."""
    watched = await client.watch_prefix(b"watch/")
    events = aiter(watched)
    for change in ((client.put, b"a", b"1"), (client.put, b"a", b"2"), (client.delete, b"a")):
        function, key, *value = change
        await function(b"watch/" + key, *value)
        say(event=said(await anext(events)))
    await watched.cancel()
    say(after_cancel=[said(event) async for event in events])
    return aiter(await client.watch_prefix(b"watch/"))


def said(event: Any) -> list[str]:
    return [event.kind, event.kv.key.decode(), event.kv.value.decode()]


async def lease(client: Any) -> None:
    granted = await client.lease(60)
    await client.put(b"leased", b"value", granted)
    say(lease=granted.ttl, keys=[key.decode() for key in await granted.keys()])
    say(keep_alive=[(await granted.refresh()).TTL for _ in range(3)])
    await granted.revoke()
    say(get=await client.get(b"leased"))


async def snapshot(client: Any) -> None:
    file = io.BytesIO()
    await client.snapshot(file)
    database, checksum = file.getvalue()[:-32], file.getvalue()[-32:]
    say(snapshot_is_whole=hashlib.sha256(database).digest() == checksum)


asyncio.run(main())
