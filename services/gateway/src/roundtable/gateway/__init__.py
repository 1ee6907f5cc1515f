"""The door: clients on one side, NATS on the other. Knows no service's rules."""
