"""Switchboard: fleets of VoIP proxies on Kubernetes, every client on one below its workload threshold."""

__version__ = "0.1.0"
