"""A program on ``etcd3`` (sync, threads), as its users write them: nothing of otelstream in it.

Usage: ``python with_etcd3.py PORT``. Prints one JSON line per result, the same in every run against an etcd that holds
nothing. Waits for a line on stdin twice: in the middle of its snapshot, then with its watch and its keep-alive open.
Makes the same calls as ``with_aetcd.py``.
"""

from __future__ import annotations

import hashlib
import io
import json
import queue
import sys
import threading
from typing import Any

import etcd3


def say(**result: Any) -> None:
    sys.stdout.write(f"{json.dumps(result)}\n")
    sys.stdout.flush()


def main() -> None:
    with etcd3.client(host="127.0.0.1", port=int(sys.argv[1])) as client:
        keys(client)
        events = watch(client)
        granted, keeper = lease(client)
        snapshot(client)
        say(watching=True)
        sys.stdin.readline()
        keeper.close()
        granted.revoke()
        say(get=client.get("leased")[0])
        client.put("watch/last", "3")
        say(event=said(next(events)))
        client.delete("watch/last")
        say(event=said(next(events)))
        watch_threads = [thread for thread in threading.enumerate() if thread.name.startswith("etcd3_watch")]
    for thread in watch_threads:
        thread.join()  # ends once it has tried to watch again, on the closed channel
    say(closed=True)


def keys(client: Any) -> None:
    client.put("key", "value")
    say(get=client.get("key")[0].decode())
    say(deleted=[client.delete("key"), client.delete("key")])
    say(get=client.get("key")[0])


def watch(client: Any) -> Any:
    """Events of one watch, which is then cancelled; those of another on the same stream, which stays open."""
    events, cancel = client.watch_prefix("watch/")
    for change in (("put", "a", "1"), ("put", "a", "2"), ("delete", "a")):
        name, key, *value = change
        getattr(client, name)(f"watch/{key}", *value)
        say(event=said(next(events)))
    cancel()
    say(after_cancel=list(events))
    events, _ = client.watch_prefix("watch/")
    return events


def said(event: Any) -> list[str]:
    return [type(event).__name__, event.key.decode(), event.value.decode()]


def lease(client: Any) -> tuple[Any, Keeper]:
    granted = client.lease(60)
    client.put("leased", "value", granted)
    say(lease=granted.ttl, keys=[key.decode() for key in granted.keys])
    say(keep_alive=[reply.TTL for _ in range(3) for reply in granted.refresh()])
    keeper = Keeper(client, granted)
    say(kept_alive=[keeper.once() for _ in range(2)])
    return granted, keeper


class Keeper:
    """Keeps a lease alive over one stream, because the client's own method makes a new one each time."""

    def __init__(self, client: Any, granted: Any) -> None:
        self._request = etcd3.etcdrpc.LeaseKeepAliveRequest(ID=granted.id)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._replies = client.leasestub.LeaseKeepAlive(iter(self._requests.get, None))

    def once(self) -> int:
        self._requests.put(self._request)
        ttl: int = next(self._replies).TTL
        return ttl

    def close(self) -> None:
        self._requests.put(None)
        say(replies_left=len(list(self._replies)))


class SlowFile(io.BytesIO):
    """Takes until there is a line on stdin for the first part."""

    def write(self, part: Any) -> int:
        if not self.tell():
            say(snapshot_begun=True)
            sys.stdin.readline()
        return super().write(part)


def snapshot(client: Any) -> None:
    file = SlowFile()
    client.snapshot(file)
    database, checksum = file.getvalue()[:-32], file.getvalue()[-32:]
    say(snapshot_is_whole=hashlib.sha256(database).digest() == checksum)


main()
