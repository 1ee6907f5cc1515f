"""Runs the Kubernetes manifests in containers on one machine, without a cluster, and shows that a rollout loses nothing."""
