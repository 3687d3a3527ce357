"""The methods of training, a module each; what they have in common is in method.py."""
