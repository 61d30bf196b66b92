"""What mask files and image files hold, and what is wrong with them."""
