"""What other trainers write about themselves, read while it grows and told in our words. Standard library only."""
