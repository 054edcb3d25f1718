"""The page that a server without the browser app shows."""

from __future__ import annotations

from html import escape


def plain_page(models: list[str]) -> str:
    """Return a page that says what runs here, and how to get the app.

    Args:
        models: names of the bundles.
    """
    names = "".join(f"<li><a href='bundles/{escape(name)}.edge'>{escape(name)}</a></li>" for name in models)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>edgedenoise</title>
</head>
<body>
<h1>edgedenoise</h1>
<p>This server denoises images for programs: <a href="openapi.json">the description of its API</a>.</p>
<p>The browser app is not installed. Whoever runs this server builds it once, in a checkout of edgedenoise:</p>
<pre>make web</pre>
<p>Bundles:</p>
<ul>{names}</ul>
</body>
</html>
"""
