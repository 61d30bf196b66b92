"""From the words of a page or a shell to typed settings and a list of stages."""
