"""An HTTP server on this machine: the browser app, an API that denoises, and the device lab.

`serve` starts it. The device lab collects what phones measure in their browsers, as result files that
`edgedenoise report` joins with those of other devices. It needs the extra `serve`.
"""
