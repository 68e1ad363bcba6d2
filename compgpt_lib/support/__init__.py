"""Arguments checked, files written whole or not at all, runs told apart."""
