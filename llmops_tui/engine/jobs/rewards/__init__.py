"""What a completion is worth: rewards that can be verified, built in and the user's own."""
