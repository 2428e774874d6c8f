"""Parts of a design's name and what each changes in the definition: one idea per file, found because it is here.

A file states ``PART``, a pattern and a function of the kind before the slash that returns a changed kind; or ``BASE``,
a pattern of whole names and a function that returns a kind and the pattern of its letters.
"""
