"""A real one-node Kubernetes cluster on a Linux host, without Docker.

The control plane, kubelet, containerd and CoreDNS are built from Go modules and run as
plain processes in namespaces of their own. Standard library only: it also runs before
the project's virtual environment exists.
"""
