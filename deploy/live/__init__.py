"""A real Prometheus over a real system under a little load: what `deploy/checks/live.py` asks."""
