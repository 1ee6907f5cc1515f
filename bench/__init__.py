"""Measures the whole system beside others: `make bench`. Nothing of the product needs it."""
