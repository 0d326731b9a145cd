"""Makes runs on one dataset take turns, with what each destination offers."""
