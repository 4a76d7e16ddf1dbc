"""The objective: from a strategy's terms to the one number that a step minimises."""
