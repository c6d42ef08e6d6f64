"""The index pages of the debug address."""

from __future__ import annotations

from html import escape

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded and no script runs, whatever a name in the page says."""

_TOP = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>otelstream: {title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
pre {{ overflow-x: auto; font: 13px/1.5 ui-monospace, monospace }}
dt {{ margin-top: .5rem }}
</style>
</head>
<body>
<h1>{title}</h1>
"""
_INDEX = f"""{_TOP}<dl>
<dt><a href="/leaks?format=text">/leaks</a></dt>
<dd>Which stream holds the memory: a verdict, its evidence, and the line of code.
Made when it is asked for. <code>otelstream leaks {{address}}</code> shows it in a terminal.</dd>
<dt><a href="/streams?format=text">/streams</a></dt>
<dd>The streams that are open now.</dd>
<dt><a href="/metrics">/metrics</a></dt>
<dd>All metrics of this process, for Prometheus.</dd>
<dt><a href="/debug/pprof/">/debug/pprof/</a></dt>
<dd>Which line of which stream has the memory and the CPU: profiles, for <code>otelstream heap {{address}}</code>
and <code>go tool pprof</code>.</dd>
</dl>
<p><code>/leaks</code> and <code>/streams</code> are JSON; with <code>?format=text</code>,
or <code>Accept: text/plain</code>, they are text.</p>
<h2>Open now</h2>
<pre>{{streams}}</pre>
</body>
</html>
"""
_PROFILES = f"""{_TOP}<dl>
<dt><a href="/debug/pprof/heap?debug=1">/debug/pprof/heap</a></dt>
<dd>The live heap, by line, method and stream. <code>?since=60</code>: only what was allocated in the last 60 s.
<code>otelstream heap {{address}}</code> shows it in a terminal.</dd>
<dt><a href="/debug/pprof/profile?seconds=10&amp;debug=1">/debug/pprof/profile</a></dt>
<dd>CPU and wall time by line, method and stream, in the next <code>?seconds=10</code>.
<code>otelstream cpu {{address}}</code> shows it in a terminal.</dd>
</dl>
<p>Both are files for <code>go tool pprof http://{{address}}/debug/pprof/heap</code>; with <code>?debug=1</code> they
are text. With <code>?by=method</code> and <code>?by=stream</code> their outermost frames are the method, and the
stream's span.</p>
</body>
</html>
"""


def index(title: str, address: str, streams: str) -> str:
    """The page: ``title`` names the process, ``streams`` is the text of ``/streams``."""
    return _INDEX.format(title=escape(title), address=escape(address), streams=escape(streams))


def profiles(title: str, address: str) -> str:
    """What is under ``/debug/pprof/``."""
    return _PROFILES.format(title=escape(title), address=escape(address))
