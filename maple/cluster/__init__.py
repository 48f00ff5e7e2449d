"""The grid on many machines: submitting cells to a scheduler, following them, taking what they made into DVC."""
