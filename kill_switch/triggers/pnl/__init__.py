"""Watch profit and loss."""
