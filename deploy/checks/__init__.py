"""Deployment's checks, one module each: `make check-deploy` runs them all. `__main__` says what a module must have."""
