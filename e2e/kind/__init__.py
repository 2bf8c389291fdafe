"""A real cluster of several nodes, by kind: kubelets, a container runtime, images, Helm."""
