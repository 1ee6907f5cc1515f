"""What Grafana and Kubernetes are given, made from code and rules: `make monitoring` writes it, and it is checked in."""
