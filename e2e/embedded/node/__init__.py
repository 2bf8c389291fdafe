"""The node program: what stands in for a kubelet and a container runtime.

`app` watches the Pods bound to this node and gives each a `PodWorker` (pod). A worker has a `Sandbox` (network
namespace, process namespace, what containers write), `Volumes`, and for each container a `ContainerRunner`, which
starts processes, probes and restarts them. What they know goes into a `ContainerRecord`, from which `status` makes what
a kubelet would report. `model` holds the fields of a Pod that are honoured; others are ignored.
"""
