"""What is written for a file that is predicted."""
