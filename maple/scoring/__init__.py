"""From stored answers to scores."""
