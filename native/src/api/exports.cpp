// The shared library is the core as a whole; a library needs one source of its own.
