"""What the chapters need beside the models: lessons and exercises."""
