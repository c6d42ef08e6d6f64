"""The index page of the debug address."""

from __future__ import annotations

from html import escape

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded and no script runs, whatever a name in the page says."""

_PAGE = """<!doctype html>
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
<dl>
<dt><a href="/leaks?format=text">/leaks</a></dt>
<dd>Which stream holds the memory: a verdict, its evidence, and the line of code.
Made when it is asked for. <code>otelstream leaks {address}</code> shows it in a terminal.</dd>
<dt><a href="/streams?format=text">/streams</a></dt>
<dd>The streams that are open now.</dd>
<dt><a href="/metrics">/metrics</a></dt>
<dd>All metrics of this process, for Prometheus.</dd>
</dl>
<p><code>/leaks</code> and <code>/streams</code> are JSON; with <code>?format=text</code>,
or <code>Accept: text/plain</code>, they are text.</p>
<h2>Open now</h2>
<pre>{streams}</pre>
</body>
</html>
"""


def index(title: str, address: str, streams: str) -> str:
    """The page: ``title`` names the process, ``streams`` is the text of ``/streams``."""
    return _PAGE.format(title=escape(title), address=escape(address), streams=escape(streams))
