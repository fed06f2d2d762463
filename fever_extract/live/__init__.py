"""Live analysis of a camera, a stream or a clip in real time, shown on a local page.

Needs the extras ``video`` and, for the page, ``serve``.
"""
