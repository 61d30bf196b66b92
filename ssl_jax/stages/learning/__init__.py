"""What stages that train share: where they begin, what they read, what they record."""
