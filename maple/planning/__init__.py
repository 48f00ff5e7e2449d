"""What a run will cost and what it lacks, before it starts."""
