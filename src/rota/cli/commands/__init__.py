"""The commands, grouped by what they are about; each is a thin path from flags to requests to words."""
