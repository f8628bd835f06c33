"""What a profile needs in memory, time and disk, computed before anything is made. Only arithmetic: no torch, no
model."""
