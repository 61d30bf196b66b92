"""What a run came to, for people: reports, tables, ledgers."""
