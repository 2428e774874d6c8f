"""Training small models fairly: one recipe, many models at once, and a plain loop that must agree."""
