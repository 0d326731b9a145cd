"""How runs on one dataset take turns, by what each destination offers."""
