"""The sentences, one file each, found because it is here and states ``CLAIM``."""
