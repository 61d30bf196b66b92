"""Which images are labeled, unlabeled or for the test, and which are alike."""
