"""The small Transformers that learn the tasks: ordinary modules that know nothing of who trains them."""
