"""What stages ask of several trainings: differences, looks, verdicts."""
