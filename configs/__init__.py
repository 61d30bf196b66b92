"""Pages, one experiment each: python main.py --config=configs/PAGE.py."""
