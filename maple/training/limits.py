"""How much training computes at once: read by the code that does it and by the plan that counts its memory. No torch
here.
"""

# Logits that the output head makes at a time, in numbers: as many as a CPU's cache likes, and on a GPU enough for a
# product that keeps it busy.
HEAD_LOGITS, HEAD_LOGITS_ON_GPU = 4_000_000, 64_000_000
# Queries that attention takes at once on a CPU: those of a longer row see the keys up to the last of them only. They
# fit its cache, and what they cannot see is not kept.
QUERIES = 256
