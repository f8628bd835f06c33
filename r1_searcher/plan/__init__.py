"""What a profile needs, in memory, time and disk, before anything is made. Arithmetic alone: no torch, no model."""
