"""What a user may ask for, and the words all rooms share."""
