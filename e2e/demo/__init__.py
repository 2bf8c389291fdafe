"""`make demo`: a pool at work, with real calls, from `kubectl apply` to the last line of figures."""
