"""What several pages share: data, views, networks, and lists of stages."""
