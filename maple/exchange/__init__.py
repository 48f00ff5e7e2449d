"""In and out: results to and from a shared store, and in the formats that other tools read."""
