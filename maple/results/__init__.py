"""From scores to tables, figures, the comparison, the claims and the report."""
