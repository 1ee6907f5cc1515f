"""Testing layer: what the tests of all services share. Nothing that runs in production imports it."""
