"""Small data, models and runs that tests share."""
