"""Ours beside everything that a user could pick instead, in one run; see README.md beside this file."""
