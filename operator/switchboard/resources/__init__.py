"""What a pool owns in Kubernetes: one pure builder per object.

A builder gives a complete, minimal apply configuration as a plain dict: what it leaves out, another manager may own;
what it named before and names no longer, server-side apply removes. None reads a clock, draws a number or talks to
anybody.
"""
