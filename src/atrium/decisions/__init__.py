"""Pure decisions: values in, a value out. No await, clock, chance or log."""
