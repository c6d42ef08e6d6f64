"""The tables of a capture. Times are ns since the Unix epoch on the sender's clock, sizes By."""

from __future__ import annotations

APPLICATION_ID = 0x6F74656C
"""``otel``: in SQLite's header, so that ``file`` and we know a capture of ours."""
VERSION = 1
"""``PRAGMA user_version``. Goes up with each change that an older reader does not understand."""

TABLES = """
CREATE TABLE process (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,       -- digest of the resource's attributes
  service TEXT NOT NULL,          -- service.name
  instance TEXT NOT NULL,         -- service.instance.id, else host and pid, else empty
  attributes TEXT NOT NULL,       -- JSON object
  first_ns INTEGER NOT NULL,      -- earliest and newest time in its data
  last_ns INTEGER NOT NULL,
  arrived_ns INTEGER NOT NULL,    -- on our clock: when something last came
  gap_ns INTEGER NOT NULL DEFAULT 0  -- longest time between its last arrivals; silent for much longer, it is gone
);
CREATE TABLE stream (             -- a call: of otelstream, or of any RPC instrumentation
  id INTEGER PRIMARY KEY,
  process INTEGER NOT NULL REFERENCES process(id),
  trace_id BLOB NOT NULL,
  span_id BLOB NOT NULL,
  method TEXT NOT NULL,           -- pkg.Service/Method
  side TEXT NOT NULL,             -- server, client, or empty while it is not known
  type TEXT NOT NULL,             -- unary, client_stream, server_stream, bidi_stream, or empty
  peer TEXT NOT NULL,             -- address:port of the other end, or empty
  start_ns INTEGER NOT NULL,
  end_ns INTEGER,                 -- NULL while it is open
  seen_ns INTEGER NOT NULL,       -- end, or end of the newest window
  due_ns INTEGER,                 -- when the next window should end; NULL once ended
  outcome TEXT,                   -- NULL while open; record.Outcome's values
  code TEXT NOT NULL,             -- gRPC status code, or empty
  sent INTEGER NOT NULL,          -- messages, in total
  received INTEGER NOT NULL,
  sent_bytes INTEGER NOT NULL,
  received_bytes INTEGER NOT NULL,
  active_ns INTEGER NOT NULL,     -- time of the last message that is known of
  deadline REAL,                  -- s
  retained INTEGER,               -- messages, in its newest window
  windows INTEGER NOT NULL,       -- how many are kept
  UNIQUE (trace_id, span_id)
);
CREATE INDEX stream_by_end ON stream (end_ns);
CREATE INDEX stream_by_process ON stream (process, start_ns);
CREATE TABLE stream_span (        -- the stream span itself, once ended
  stream INTEGER PRIMARY KEY REFERENCES stream(id),
  span BLOB NOT NULL              -- opentelemetry.proto.trace.v1.Span
);
CREATE TABLE window (             -- an interval span
  id INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL REFERENCES stream(id),
  span_id BLOB NOT NULL,
  number INTEGER NOT NULL,        -- otelstream.interval.index
  start_ns INTEGER NOT NULL,
  end_ns INTEGER NOT NULL,
  sent INTEGER NOT NULL,          -- in the window
  received INTEGER NOT NULL,
  sent_bytes INTEGER NOT NULL,
  received_bytes INTEGER NOT NULL,
  idle REAL NOT NULL,             -- s, at its end
  memory INTEGER,                 -- process.memory.usage at its end
  delta INTEGER,                  -- otelstream.memory.delta
  retained INTEGER,
  UNIQUE (stream, span_id)
);
CREATE INDEX window_by_stream ON window (stream, start_ns);
CREATE TABLE window_span (
  window INTEGER PRIMARY KEY REFERENCES window(id),
  span BLOB NOT NULL
);
CREATE TABLE continuation (       -- after 500 windows a stream goes on in a new trace
  trace_id BLOB PRIMARY KEY,
  stream INTEGER NOT NULL REFERENCES stream(id)
) WITHOUT ROWID;
CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  process INTEGER NOT NULL REFERENCES process(id),
  name TEXT NOT NULL,
  attributes TEXT NOT NULL,       -- JSON object with sorted keys
  UNIQUE (process, name, attributes)
);
CREATE TABLE point (              -- sums are cumulative, whatever temporality they came in
  series INTEGER NOT NULL REFERENCES series(id),
  time_ns INTEGER NOT NULL,
  value REAL NOT NULL,
  PRIMARY KEY (series, time_ns)
) WITHOUT ROWID;
CREATE TABLE finding (            -- a leak that the service itself has told of
  id INTEGER PRIMARY KEY,
  process INTEGER NOT NULL REFERENCES process(id),
  kind TEXT NOT NULL,             -- findings.Kind's values
  method TEXT NOT NULL,           -- empty where no method is named
  side TEXT NOT NULL,
  first_ns INTEGER NOT NULL,      -- first and last told
  last_ns INTEGER NOT NULL,
  said_ns INTEGER NOT NULL,       -- last told by a log record, which knows the next and more; 0 while only spans told
  severity TEXT NOT NULL,         -- info, warning, critical
  holder TEXT NOT NULL,           -- name and file:line, or empty
  growth REAL,                    -- per minute
  unit TEXT NOT NULL,
  evidence TEXT NOT NULL,         -- empty when only spans told of it
  advice TEXT NOT NULL,
  UNIQUE (process, kind, method, side)
);
CREATE TABLE dropped (
  reason TEXT PRIMARY KEY,        -- name in intake.Reason
  count INTEGER NOT NULL,
  last_ns INTEGER NOT NULL,       -- on our clock
  example TEXT NOT NULL
);
"""
PROFILE_TABLES = """
CREATE TABLE IF NOT EXISTS snapshot (  -- a profile
  id INTEGER PRIMARY KEY,
  process INTEGER NOT NULL REFERENCES process(id),
  kind TEXT NOT NULL,             -- heap, cpu or other: by its types
  types TEXT NOT NULL,            -- what it counts: inuse_objects inuse_space
  time_ns INTEGER NOT NULL,
  duration_ns INTEGER NOT NULL,   -- 0 for a state, as the heap is one
  unit TEXT NOT NULL,             -- of the last of its types: bytes
  total INTEGER NOT NULL,         -- of the last of its types, all samples together
  size INTEGER NOT NULL,          -- By of the profile as it is kept
  UNIQUE (process, kind, time_ns, types)
);
CREATE TABLE IF NOT EXISTS snapshot_profile (
  snapshot INTEGER PRIMARY KEY REFERENCES snapshot(id),
  profile BLOB NOT NULL           -- pprof's file format, gzipped
);
"""
"""Not in captures of 0.1.0: the writer adds them to one that it goes on with, a reader does without."""
