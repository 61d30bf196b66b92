"""How trainings compare: repetitions, verdicts, and what more labels would give."""
