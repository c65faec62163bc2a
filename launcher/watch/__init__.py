"""How a run goes, read from its folder while it is written: by the launcher itself, or from another
shell. Whatever is missing there, half-written or garbage is passed over.
"""
