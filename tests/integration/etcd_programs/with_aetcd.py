"""A program on ``aetcd`` (asyncio), as its users write them: nothing of otelstream in it.

Usage: ``python with_aetcd.py PORT``. Prints one JSON line per result, the same in every run against an etcd that holds
nothing. Waits for a line on stdin twice: in the middle of its snapshot, then with its watch and its keep-alive open.
Makes the same calls as ``with_etcd3.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aetcd


def say(**result: Any) -> None:
    sys.stdout.write(f"{json.dumps(result)}\n")
    sys.stdout.flush()


async def main() -> None:
    async with aetcd.Client(host="127.0.0.1", port=int(sys.argv[1])) as client:
        await keys(client)
        events = await watch(client)
        granted, keeper = await lease(client)
        await snapshot(client)
        say(watching=True)
        await asyncio.to_thread(sys.stdin.readline)
        await keeper.close()
        await granted.revoke()
        say(get=await client.get(b"leased"))
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


async def lease(client: Any) -> tuple[Any, Keeper]:
    granted = await client.lease(60)
    await client.put(b"leased", b"value", granted)
    say(lease=granted.ttl, keys=[key.decode() for key in await granted.keys()])
    say(keep_alive=[(await granted.refresh()).TTL for _ in range(3)])
    keeper = Keeper(client, granted)
    say(kept_alive=[await keeper.once() for _ in range(2)])
    return granted, keeper


class Keeper:
    """Keeps a lease alive over one stream, because the client's own method makes a new one each time."""

    def __init__(self, client: Any, granted: Any) -> None:
        self._request = aetcd.rpc.LeaseKeepAliveRequest(ID=granted.id)
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._replies = aiter(client.leasestub.LeaseKeepAlive(self._sent()))

    async def _sent(self) -> AsyncIterator[Any]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def once(self) -> int:
        await self._requests.put(self._request)
        ttl: int = (await anext(self._replies)).TTL
        return ttl

    async def close(self) -> None:
        await self._requests.put(None)
        say(replies_left=len([reply async for reply in self._replies]))


class SlowFile(io.BytesIO):
    """Takes until there is a line on stdin for the first part."""

    def write(self, part: Any) -> int:
        if not self.tell():
            say(snapshot_begun=True)
            sys.stdin.readline()
        return super().write(part)


async def snapshot(client: Any) -> None:
    file = SlowFile()
    await client.snapshot(file)
    database, checksum = file.getvalue()[:-32], file.getvalue()[-32:]
    say(snapshot_is_whole=hashlib.sha256(database).digest() == checksum)


asyncio.run(main())
