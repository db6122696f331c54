"""The pure core: what a rollout is and what its next steps are; imports no clock, no I/O, no randomness."""
