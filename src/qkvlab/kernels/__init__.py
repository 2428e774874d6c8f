"""What the processor does by our own code: kernels in C++, and what compiles them when they are needed."""
