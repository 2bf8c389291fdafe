"""A Kubernetes cluster of one node in namespaces of its own: real control plane, no kubelet, no container runtime.

`python -m e2e.embedded -- COMMAND` runs COMMAND inside one; README.md says what is in it and what is not.
"""
